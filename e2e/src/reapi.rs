//! A client of the Remote Execution API, for actions that no build tool sends: one at a time, to its result.
//!
//! Neighbours: `remote` makes the connection; `attacks` and the scenarios of toolchains send commands by it. It asks for the
//! CAS, ByteStream excepted, and Execution; it caches nothing and tries nothing twice.

#[allow(dead_code, clippy::unwrap_used, reason = "the tests of grid-worker use the rest")]
#[path = "../../grid-worker/tests/grid/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use grid_proto::any;
use grid_proto::longrunning::operation;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{
    Action, ActionResult, BatchReadBlobsRequest, BatchUpdateBlobsRequest, Command, Digest, ExecuteRequest,
    ExecuteResponse, FindMissingBlobsRequest, Platform, batch_update_blobs_request, platform,
};
use grid_proto::rpc;
use prost::Message;
use tonic::transport::Channel;
pub(crate) use tree::Tree;

use crate::remote::{self, digest};

/// The most bytes of one call's blobs.
const BATCH: usize = 3 << 20;

/// A server.
pub(crate) struct Remote(remote::Remote);

/// A command over its inputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    /// What is run.
    pub(crate) command: Command,
    /// What it runs over.
    pub(crate) inputs: Tree,
    /// The platform properties that it asks for.
    pub(crate) properties: Vec<(String, String)>,
    /// For how many seconds it may run.
    pub(crate) seconds: Option<i64>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// OK, or why there is no whole result.
    pub(crate) status: rpc::Status,
    /// The result, empty where there is none.
    pub(crate) result: ActionResult,
}

impl Remote {
    /// A server without TLS at `http://HOST:PORT`.
    ///
    /// # Errors
    /// Where that is no address.
    pub(crate) fn plain(address: &str) -> Result<Self> {
        remote::Remote::plain(address.trim_start_matches("http://")).map(Self)
    }

    /// The grid called `host` behind the ingress controller at `address`, known by the certificate in `ca`.
    ///
    /// # Errors
    /// Where the certificate can't be read, or nobody answers there.
    pub(crate) fn behind_ingress(address: &str, host: &str, ca: &Path) -> Result<Self> {
        let authority =
            std::fs::read_to_string(ca).with_context(|| format!("can't read {}", ca.display()))?;
        remote::Remote::connect(address, host, &authority).map(Self)
    }

    /// Runs a command to its end, whatever the caches know of it.
    ///
    /// # Errors
    /// Where a call fails; how the command ended is no error.
    pub(crate) fn execute(&self, work: &Work) -> Result<Done> {
        self.run(self.prepare(work)?)
    }

    /// Uploads a command with its inputs; gives the action's digest.
    ///
    /// # Errors
    /// Where a call fails.
    pub(crate) fn prepare(&self, work: &Work) -> Result<Digest> {
        self.0.runtime.block_on(async {
            let mut blobs = BTreeMap::new();
            let mut put = |content: &[u8]| {
                let digest = digest(content);
                blobs.insert(digest.hash.clone(), (digest.clone(), Bytes::copy_from_slice(content)));
                digest
            };
            let input_root = work.inputs.store(&mut put);
            let platform = platform(&work.properties);
            let command = Command { platform: platform.clone(), ..work.command.clone() };
            let action = Action {
                command_digest: Some(put(&command.encode_to_vec())),
                input_root_digest: Some(input_root),
                timeout: work.seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
                do_not_cache: true,
                platform,
                ..Action::default()
            };
            let action = put(&action.encode_to_vec());
            self.upload(blobs.into_values().collect()).await?;
            Ok(action)
        })
    }

    /// Runs an action that was uploaded to its end, whatever the caches know of it.
    ///
    /// # Errors
    /// As [`Remote::execute`].
    pub(crate) fn run(&self, action: Digest) -> Result<Done> {
        self.0.runtime.block_on(async {
            let request = ExecuteRequest {
                action_digest: Some(action),
                skip_cache_lookup: true,
                ..ExecuteRequest::default()
            };
            let mut execution = ExecutionClient::new(self.0.channel.clone());
            let mut operations = execution.execute(request).await?.into_inner();
            let mut last = None;
            while let Some(operation) = operations.message().await? {
                last = Some(operation);
            }
            done(last.and_then(|operation| operation.result))
        })
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// Where the server has not got it.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Bytes> {
        let mut cas = ContentAddressableStorageClient::new(self.0.channel.clone());
        let request = BatchReadBlobsRequest { digests: vec![digest.clone()], ..Default::default() };
        let answer = self.0.runtime.block_on(cas.batch_read_blobs(request))?.into_inner();
        let blob = answer.responses.into_iter().next().context("an answer without the blob")?;
        ensure!(blob.status.as_ref().is_none_or(|s| s.code == 0), "{}: {:?}", digest.hash, blob.status);
        Ok(blob.data)
    }

    /// A command's standard output, in the result or in the CAS.
    ///
    /// # Errors
    /// Where the server has not got it, or it is no text.
    pub(crate) fn stdout(&self, result: &ActionResult) -> Result<String> {
        let content = match &result.stdout_digest {
            Some(digest) if result.stdout_raw.is_empty() && digest.size_bytes > 0 => self.blob(digest)?,
            _ => result.stdout_raw.clone(),
        };
        Ok(String::from_utf8(content.to_vec())?)
    }

    async fn upload(&self, blobs: Vec<(Digest, Bytes)>) -> Result<()> {
        let mut cas = ContentAddressableStorageClient::new(self.0.channel.clone());
        let blob_digests = blobs.iter().map(|(digest, _)| digest.clone()).collect();
        let find = FindMissingBlobsRequest { blob_digests, ..Default::default() };
        let missing = cas.find_missing_blobs(find).await?.into_inner().missing_blob_digests;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (digest, data) in blobs.into_iter().filter(|(digest, _)| missing.contains(digest)) {
            if bytes + data.len() > BATCH {
                send(&mut cas, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += data.len();
            batch.push(batch_update_blobs_request::Request { digest: Some(digest), data, compressor: 0 });
        }
        send(&mut cas, batch).await
    }
}

fn done(result: Option<operation::Result>) -> Result<Done> {
    match result {
        Some(operation::Result::Response(response)) => {
            let response: ExecuteResponse = any::unpack(&response)?;
            let status = response.status.unwrap_or_default();
            Ok(Done { status, result: response.result.unwrap_or_default() })
        }
        Some(operation::Result::Error(status)) => Ok(Done { status, result: ActionResult::default() }),
        None => anyhow::bail!("the server ended the operation's stream without a result"),
    }
}

async fn send(
    cas: &mut ContentAddressableStorageClient<Channel>,
    requests: Vec<batch_update_blobs_request::Request>,
) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let answer = cas.batch_update_blobs(BatchUpdateBlobsRequest { requests, ..Default::default() }).await?;
    for response in answer.into_inner().responses {
        ensure!(response.status.as_ref().is_none_or(|s| s.code == 0), "a blob was refused: {response:?}");
    }
    Ok(())
}

/// Sorted, as the specification asks.
fn platform(properties: &[(String, String)]) -> Option<Platform> {
    let mut properties = properties.to_vec();
    properties.sort();
    let properties = properties.into_iter().map(|(name, value)| platform::Property { name, value });
    let properties: Vec<_> = properties.collect();
    (!properties.is_empty()).then_some(Platform { properties })
}
