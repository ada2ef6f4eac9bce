//! `!remote-storage`: blobs in another server that speaks REAPI's CAS and ByteStream.
//!
//! What was acknowledged is as durable as it is there. A server that is away is waited for (see
//! [`Patience`](crate::client::Patience)); a transfer that breaks off goes on where it was. REAPI has no call to delete
//! a blob: `delete` is refused.

mod batch;
mod resource;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use grid_core::{Digest, DigestFunction};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{self, FindMissingBlobsRequest};

use crate::client::{AuthorizedChannel, Connection};
use crate::content::{self, DigestMap, DigestSet, is_empty_blob};
use crate::groups::within;
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// How many digests one `FindMissingBlobs` asks about: well within the 4 MiB that every server takes.
const DIGESTS: usize = 10_000;
/// How many bytes of blobs one batch call carries, of the 4 MiB that every server takes; the rest is for digests.
const BATCH: u64 = 3 * 1024 * 1024 + 512 * 1024;
/// Blobs up to this size are written by a batch call, which can simply be repeated.
const SMALL: u64 = 256 * 1024;
/// Servers may send larger pieces and batches than we ask for; this is where we refuse.
const MESSAGE: usize = 32 * 1024 * 1024;

/// Blobs in another server.
#[derive(Clone, Debug)]
pub struct Remote {
    connection: Connection,
    cas: ContentAddressableStorageClient<AuthorizedChannel>,
    streams: ByteStreamClient<AuthorizedChannel>,
}

impl Remote {
    /// The storage behind `connection`. Nothing is sent yet.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        let (take, send) = (connection.max_receive(MESSAGE), connection.max_send());
        let cas = ContentAddressableStorageClient::new(connection.channel())
            .max_decoding_message_size(take)
            .max_encoding_message_size(send);
        let streams = ByteStreamClient::new(connection.channel())
            .max_decoding_message_size(take)
            .max_encoding_message_size(send);
        Self { connection, cas, streams }
    }

    async fn find_missing_of(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let Some(function) = digests.first().map(Digest::function) else { return Ok(Vec::new()) };
        let request = FindMissingBlobsRequest {
            instance_name: self.connection.instance_name().to_owned(),
            blob_digests: digests.iter().map(wire).collect(),
            digest_function: function.to_wire(),
        };
        let call = || {
            let (mut cas, request) = (self.cas.clone(), request.clone());
            async move { cas.find_missing_blobs(request).await }
        };
        let answer = self.connection.patience().call(call).await;
        let answer = answer.map_err(|status| self.connection.error(&status, None))?.into_inner();
        answer.missing_blob_digests.iter().map(|digest| self.parse(function, digest)).collect()
    }

    fn parse(&self, function: DigestFunction, digest: &reapi::Digest) -> Result<Digest, StoreError> {
        Digest::parse(function, &digest.hash, digest.size_bytes).map_err(|error| StoreError::Internal {
            backend: Arc::clone(self.connection.name()),
            message: format!("the server answered with a malformed digest: {error}"),
        })
    }
}

/// `digests` by function, since a request is about one.
fn by_function(digests: impl IntoIterator<Item = Digest>) -> impl Iterator<Item = Vec<Digest>> {
    let mut parts: BTreeMap<DigestFunction, Vec<Digest>> = BTreeMap::new();
    for digest in digests {
        parts.entry(digest.function()).or_default().push(digest);
    }
    parts.into_values()
}

fn wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() }
}

/// The answers in the order of `digests`, each of which may be named more than once.
fn in_order<T: Clone>(
    digests: &[Digest],
    answers: &DigestMap<Result<T, StoreError>>,
    absent: impl Fn(&Digest) -> Result<T, StoreError>,
) -> Vec<Result<T, StoreError>> {
    digests.iter().map(|digest| answers.get(digest).cloned().unwrap_or_else(|| absent(digest))).collect()
}

#[async_trait]
impl BlobStore for Remote {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let asked = content::missing_of(digests, |_| false);
        let parts: Vec<Vec<Digest>> = by_function(asked).collect();
        let calls = parts.iter().flat_map(|part| part.chunks(DIGESTS)).map(|part| self.find_missing_of(part));
        let missing: DigestSet = try_join_all(calls).await?.into_iter().flatten().collect();
        Ok(content::missing_of(digests, |digest| !missing.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (start, end) = content::bounds(digest, range)?;
        if start == end {
            return match self.find_missing(&[*digest]).await?.is_empty() {
                true => Ok(content::from_bytes(Bytes::new())),
                false => Err(StoreError::NotFound(*digest)),
            };
        }
        transfer::read(self, *digest, start, end).await
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) {
            return Ok(());
        }
        if digest.size() > SMALL {
            return transfer::write(self, *digest, content).await;
        }
        let bytes = content::collect(digest, content).await?;
        self.write_batch(vec![(*digest, bytes)]).await.pop().unwrap_or(Ok(()))
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let asked = content::missing_of(digests, |_| false);
        let (large, small): (Vec<_>, Vec<_>) = asked.into_iter().partition(|digest| digest.size() > BATCH);
        let mut answers = DigestMap::default();
        for part in by_function(small) {
            for batch in within(part, BATCH, Digest::size) {
                answers.extend(batch::read(self, &batch).await);
            }
        }
        for digest in large {
            let bytes = match self.read(&digest, ByteRange::default()).await {
                Ok(content) => content::collect(&digest, content).await,
                Err(error) => Err(error),
            };
            answers.insert(digest, bytes);
        }
        in_order(digests, &answers, |digest| match is_empty_blob(digest) {
            true => Ok(Bytes::new()),
            false => Err(StoreError::NotFound(*digest)),
        })
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (blobs, wrong) = content::sized(blobs);
        let mut good: BTreeMap<DigestFunction, DigestMap<Bytes>> = BTreeMap::new();
        for (digest, bytes) in blobs {
            good.entry(digest.function()).or_default().insert(digest, bytes);
        }
        let mut answers = DigestMap::default();
        for part in good.into_values() {
            let (large, small): (Vec<_>, Vec<_>) =
                part.into_iter().partition(|(digest, _)| digest.size() > BATCH);
            for batch in within(small, BATCH, |(digest, _)| digest.size()) {
                answers.extend(batch::write(self, &batch).await);
            }
            let writes = large.into_iter().map(|(digest, bytes)| async move {
                (digest, self.write(&digest, content::from_bytes(bytes)).await)
            });
            answers.extend(join_all(writes).await);
        }
        content::answers(&digests, &answers, wrong)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let refused = StoreError::Refused {
            backend: Arc::clone(self.connection.name()),
            message: "a blob can't be deleted through the remote execution API; run cleanup on that server"
                .into(),
        };
        vec![Err(refused); digests.len()]
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let request = FindMissingBlobsRequest {
            instance_name: self.connection.instance_name().to_owned(),
            ..FindMissingBlobsRequest::default()
        };
        let mut cas = self.cas.clone();
        let answer = self.connection.patience().attempt(cas.find_missing_blobs(request)).await;
        answer.map(drop).map_err(|status| self.connection.error(&status, None))
    }
}
