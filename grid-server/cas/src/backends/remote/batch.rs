//! Blobs in batch calls. Each call is about one digest function, and can be repeated as it is.

use bytes::Bytes;
use grid_core::Digest;
use grid_proto::reapi::{BatchReadBlobsRequest, BatchUpdateBlobsRequest, batch_update_blobs_request};
use grid_proto::rpc;
use tonic::Code;

use super::{Remote, wire};
use crate::StoreError;
use crate::content::DigestMap;

pub(super) async fn read(remote: &Remote, digests: &[Digest]) -> DigestMap<Result<Bytes, StoreError>> {
    let Some(function) = digests.first().map(Digest::function) else { return DigestMap::default() };
    let request = BatchReadBlobsRequest {
        instance_name: remote.connection.instance_name().to_owned(),
        digests: digests.iter().map(wire).collect(),
        acceptable_compressors: Vec::new(),
        digest_function: function.to_wire(),
    };
    let call = || {
        let (mut cas, request) = (remote.cas.clone(), request.clone());
        async move { cas.batch_read_blobs(request).await }
    };
    let answer = match remote.connection.patience().call(call).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return all(digests.iter(), &remote.connection.error(&status, None)),
    };
    let mut answers = DigestMap::default();
    for response in answer.responses {
        let Some(Ok(digest)) = response.digest.as_ref().map(|digest| remote.parse(function, digest)) else {
            continue;
        };
        let actual = response.data.len() as u64;
        let result = match verdict(remote, response.status, &digest) {
            Ok(()) if actual != digest.size() => {
                Err(remote.connection.error_of(Code::DataLoss, "", Some(&digest)))
            }
            // Copied where it is a small part of a large answer, which it would keep alive.
            Ok(()) => Ok(Bytes::copy_from_slice(&response.data)),
            Err(error) => Err(error),
        };
        answers.insert(digest, result);
    }
    answers
}

pub(super) async fn write(remote: &Remote, blobs: &[(Digest, Bytes)]) -> DigestMap<Result<(), StoreError>> {
    let Some(function) = blobs.first().map(|(digest, _)| digest.function()) else {
        return DigestMap::default();
    };
    let entry = |(digest, bytes): &(Digest, Bytes)| batch_update_blobs_request::Request {
        digest: Some(wire(digest)),
        data: bytes.clone(),
        ..Default::default()
    };
    let request = BatchUpdateBlobsRequest {
        instance_name: remote.connection.instance_name().to_owned(),
        requests: blobs.iter().map(entry).collect(),
        digest_function: function.to_wire(),
    };
    let call = || {
        let (mut cas, request) = (remote.cas.clone(), request.clone());
        async move { cas.batch_update_blobs(request).await }
    };
    let digests = blobs.iter().map(|(digest, _)| digest);
    let answer = match remote.connection.patience().call(call).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return all(digests, &remote.connection.error(&status, None)),
    };
    // What the server says nothing about is not stored.
    let silence = remote.connection.error_of(Code::Internal, "the server gave no answer for a blob", None);
    let mut answers = all(digests, &silence);
    for response in answer.responses {
        let Some(Ok(digest)) = response.digest.as_ref().map(|digest| remote.parse(function, digest)) else {
            continue;
        };
        answers.insert(digest, verdict(remote, response.status, &digest));
    }
    answers
}

fn verdict(remote: &Remote, status: Option<rpc::Status>, digest: &Digest) -> Result<(), StoreError> {
    let Some(status) = status else { return Ok(()) };
    match Code::from_i32(status.code) {
        Code::Ok => Ok(()),
        code => Err(remote.connection.error_of(code, &status.message, Some(digest))),
    }
}

fn all<'a, T>(
    digests: impl Iterator<Item = &'a Digest>,
    error: &StoreError,
) -> DigestMap<Result<T, StoreError>> {
    digests.map(|digest| (*digest, Err(error.clone()))).collect()
}
