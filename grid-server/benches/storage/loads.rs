//! The loads: so many requests of one kind, sixteen at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{ReadRequest, WriteRequest};
use grid_proto::reapi::batch_update_blobs_request::Request as Blob;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{BatchReadBlobsRequest, BatchUpdateBlobsRequest, Digest, FindMissingBlobsRequest};

use crate::blobs::{digest, noise, uuid};
use crate::servers::Server;

const AT_A_TIME: usize = 16;
pub(crate) const MIB: usize = 1 << 20;
const SMALL: usize = 1 << 10;
/// How many small blobs a batch has.
const BATCH: u64 = 100;
const LARGEST_MESSAGE: usize = 8 * MIB;

/// Requests of one kind.
pub(crate) struct Load {
    /// Its row in the table.
    pub(crate) name: &'static str,
    /// The cost that is wanted.
    pub(crate) wanted: &'static str,
    /// How many requests are made.
    pub(crate) requests: u32,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    FindMissing,
    BatchRead,
    BatchUpdate,
    Write(usize),
    Read(usize),
}

const fn load(name: &'static str, wanted: &'static str, requests: u32, kind: Kind) -> Load {
    Load { name, wanted, requests, kind }
}

/// All of them; what one wrote another reads.
pub(crate) const LOADS: &[Load] = &[
    load("FindMissingBlobs, 1,000 digests, half there", "0.22", 400, Kind::FindMissing),
    load("BatchUpdateBlobs, 100 × 1 KiB", "0.35", 400, Kind::BatchUpdate),
    load("BatchReadBlobs, 100 × 1 KiB", "0.13", 800, Kind::BatchRead),
    load("ByteStream write, 1 MiB", "1.5", 300, Kind::Write(MIB)),
    load("ByteStream read, 1 MiB", "0.40", 600, Kind::Read(MIB)),
    load("ByteStream write, 64 MiB", "90", 12, Kind::Write(64 * MIB)),
    load("ByteStream read, 64 MiB", "24", 24, Kind::Read(64 * MIB)),
];

impl Load {
    /// Stores what the requests are about.
    pub(crate) async fn prepare(&self, server: &Server) {
        match self.kind {
            Kind::FindMissing | Kind::BatchRead => {
                for batch in 0..5 {
                    update(server, (batch * BATCH..(batch + 1) * BATCH).map(small).collect()).await;
                }
            }
            Kind::Read(size) => write(server, &Large::new(0, size)).await,
            Kind::BatchUpdate | Kind::Write(_) => {}
        }
    }

    /// Makes the requests.
    pub(crate) async fn run(&self, server: &Server) {
        static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
        // What takes the load time beside the requests is made before them, where it is not too large.
        let digests: Vec<Digest> = (0..1_000).map(|number| digest(&[small(number)])).collect();
        let fixed = Large::new(0, if let Kind::Read(size) = self.kind { size } else { MIB });
        let request = |_| {
            let (digests, fixed) = (&digests, &fixed);
            let number = NUMBER.fetch_add(BATCH, Ordering::Relaxed);
            async move {
                match self.kind {
                    Kind::FindMissing => find_missing(server, digests.clone()).await,
                    Kind::BatchRead => read_batch(server, digests[..100].to_vec()).await,
                    Kind::BatchUpdate => update(server, (number..number + BATCH).map(small).collect()).await,
                    Kind::Write(size) => write(server, &Large::new(number, size)).await,
                    Kind::Read(_) => read(server, fixed).await,
                }
            }
        };
        stream::iter(0..self.requests).map(request).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
    }
}

fn small(number: u64) -> Bytes {
    noise(number, SMALL)
}

/// A large blob in pieces of a mebibyte, of which the first is its own.
pub(crate) struct Large {
    digest: Digest,
    pieces: Vec<Bytes>,
}

impl Large {
    pub(crate) fn new(number: u64, size: usize) -> Self {
        let shared = noise(7, MIB);
        let mut pieces = vec![shared; size / MIB];
        pieces[0] = noise(number, MIB);
        Self { digest: digest(&pieces), pieces }
    }

    pub(crate) fn name(&self) -> String {
        format!("blobs/{}/{}", self.digest.hash, self.digest.size_bytes)
    }
}

fn cas(server: &Server) -> ContentAddressableStorageClient<tonic::transport::Channel> {
    ContentAddressableStorageClient::new(server.channel()).max_decoding_message_size(LARGEST_MESSAGE)
}

async fn find_missing(server: &Server, blob_digests: Vec<Digest>) {
    let ask = FindMissingBlobsRequest { blob_digests, ..FindMissingBlobsRequest::default() };
    let answer = cas(server).find_missing_blobs(ask).await.expect("an answer").into_inner();
    assert_eq!(answer.missing_blob_digests.len(), 500);
}

async fn update(server: &Server, contents: Vec<Bytes>) {
    let blob =
        |data: Bytes| Blob { digest: Some(digest(std::slice::from_ref(&data))), data, ..Blob::default() };
    let requests = contents.into_iter().map(blob).collect();
    let update = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
    let answer = cas(server).batch_update_blobs(update).await.expect("an answer").into_inner();
    assert!(answer.responses.iter().all(|one| one.status.as_ref().is_none_or(|status| status.code == 0)));
}

async fn read_batch(server: &Server, digests: Vec<Digest>) {
    let ask = BatchReadBlobsRequest { digests, ..BatchReadBlobsRequest::default() };
    let answer = cas(server).batch_read_blobs(ask).await.expect("an answer").into_inner();
    assert!(answer.responses.iter().all(|one| one.data.len() == SMALL));
}

/// Stores a large blob.
pub(crate) async fn write(server: &Server, blob: &Large) {
    let name = format!("uploads/{}/{}", uuid(), blob.name());
    let last = blob.pieces.len() - 1;
    let message = move |(at, data): (usize, Bytes)| WriteRequest {
        resource_name: if at == 0 { name.clone() } else { String::new() },
        write_offset: i64::try_from(at * MIB).expect("an offset"),
        finish_write: at == last,
        data,
    };
    let messages: Vec<WriteRequest> = blob.pieces.iter().cloned().enumerate().map(message).collect();
    let mut client = ByteStreamClient::new(server.channel());
    let answer = client.write(stream::iter(messages)).await.expect("an answer").into_inner();
    assert_eq!(answer.committed_size, blob.digest.size_bytes);
}

async fn read(server: &Server, blob: &Large) {
    let ask = ReadRequest { resource_name: blob.name(), ..ReadRequest::default() };
    let mut client = ByteStreamClient::new(server.channel()).max_decoding_message_size(LARGEST_MESSAGE);
    let mut content = client.read(ask).await.expect("an answer").into_inner();
    let mut size = 0;
    while let Some(piece) = content.message().await.expect("a piece") {
        size += piece.data.len();
    }
    assert_eq!(i64::try_from(size), Ok(blob.digest.size_bytes));
}
