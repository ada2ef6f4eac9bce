//! `ByteStream.Write` of blobs, and `QueryWriteStatus`.

use grid_core::{Digest, DigestFunction};
use grid_proto::bytestream::{QueryWriteStatusRequest, WriteRequest};
use tonic::{Code, Request, Status};

use crate::bytestream_packed;
use crate::grid::{Grid, MAIN, READ_ONLY, TIGHT, TIGHT_BLOB, noise, refused, sha256};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "ByteStream Write";
pub(crate) const UUID: &str = "0b7c1f1e-1c7a-4c39-9d0e-3a53a0d9c001";

pub(crate) fn name(digest: &Digest) -> String {
    format!("{MAIN}/uploads/{UUID}/blobs/{digest}")
}

pub(crate) fn zstd_name(digest: &Digest) -> String {
    format!("{MAIN}/uploads/{UUID}/compressed-blobs/zstd/{digest}")
}

/// The messages of an orderly upload that starts at `offset`.
pub(crate) fn messages(name: &str, content: &[u8], offset: i64, piece: usize) -> Vec<WriteRequest> {
    let mut at = offset;
    let mut messages: Vec<_> = content
        .chunks(piece)
        .map(|data| {
            let data = data.to_vec().into();
            let message = WriteRequest { write_offset: at, data, ..WriteRequest::default() };
            at += message.data.len() as i64;
            message
        })
        .collect();
    if messages.is_empty() {
        messages.push(WriteRequest::default());
    }
    messages[0].resource_name = name.into();
    messages.last_mut().unwrap().finish_write = true;
    messages
}

pub(crate) async fn send(grid: &Grid, messages: Vec<WriteRequest>) -> Result<i64, Status> {
    let request = futures::stream::iter(messages);
    Ok(grid.bytestream().write(request).await?.into_inner().committed_size)
}

pub(crate) async fn write(grid: &Grid, name: &str, content: &[u8]) -> Result<i64, Status> {
    send(grid, messages(name, content, 0, 100_000)).await
}

pub(crate) async fn query(grid: &Grid, name: &str) -> Result<(i64, bool), Status> {
    let request = QueryWriteStatusRequest { resource_name: name.into() };
    let answer = grid.bytestream().query_write_status(request).await?.into_inner();
    Ok((answer.committed_size, answer.complete))
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = plain_rules();
    rules.extend(present_rules());
    rules.extend(order_refusals());
    rules.extend(content_refusals());
    rules.extend(bytestream_packed::compressed_rules());
    rules.extend(bytestream_packed::query_rules());
    rules
}

fn plain_rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "a blob is written in pieces and its size committed", |grid| async move {
            let content = noise(401, 3 << 20);
            let digest = sha256(&content);
            assert_eq!(write(&grid, &name(&digest), &content).await.unwrap(), 3 << 20);
            assert!(grid.has(&digest).await);
        }),
        accepts(SOURCE, "a blob is written in one message", |grid| async move {
            let content = noise(402, 10);
            let digest = sha256(&content);
            assert_eq!(write(&grid, &name(&digest), &content).await.unwrap(), 10);
            assert!(grid.has(&digest).await);
        }),
        accepts(SOURCE, "finish_write may come in a message without data", |grid| async move {
            let content = noise(403, 10);
            let digest = sha256(&content);
            let mut all = messages(&name(&digest), &content, 0, 10);
            all[0].finish_write = false;
            all.push(WriteRequest { write_offset: 10, finish_write: true, ..WriteRequest::default() });
            assert_eq!(send(&grid, all).await.unwrap(), 10);
            assert!(grid.has(&digest).await);
        }),
        accepts(SOURCE, "every message may repeat the name", |grid| async move {
            let content = noise(404, 30);
            let name = name(&sha256(&content));
            let mut all = messages(&name, &content, 0, 10);
            all.iter_mut().for_each(|m| m.resource_name.clone_from(&name));
            assert_eq!(send(&grid, all).await.unwrap(), 30);
        }),
        accepts(SOURCE, "messages without data are passed over", |grid| async move {
            let content = noise(405, 20);
            let mut all = messages(&name(&sha256(&content)), &content, 0, 10);
            all.insert(1, WriteRequest { write_offset: 10, ..WriteRequest::default() });
            assert_eq!(send(&grid, all).await.unwrap(), 20);
        }),
        accepts("REAPI CAS: resource names", "metadata after the size is passed over", |grid| async move {
            let content = noise(406, 20);
            let name = format!("{}/path/to/file.o", name(&sha256(&content)));
            assert_eq!(write(&grid, &name, &content).await.unwrap(), 20);
        }),
        accepts("REAPI CAS: resource names", "the digest function may be named", |grid| async move {
            let content = noise(407, 20);
            let digest = Digest::of(DigestFunction::Blake3, &content);
            let name = format!("{MAIN}/uploads/{UUID}/blobs/blake3/{digest}");
            assert_eq!(write(&grid, &name, &content).await.unwrap(), 20);
            assert!(grid.has(&digest).await);
        }),
        accepts(
            "REAPI CAS: resource names",
            "the unnamed instance has no leading slash",
            |grid| async move {
                let content = noise(408, 20);
                let digest = sha256(&content);
                let name = format!("uploads/{UUID}/blobs/{digest}");
                assert_eq!(write(&grid, &name, &content).await.unwrap(), 20);
                assert!(grid.has(&digest).await);
            },
        ),
        accepts("REAPI CAS: uploads", "the same blob may be written twice at once", |grid| async move {
            let content = noise(409, 1 << 20);
            let name = name(&sha256(&content));
            let both = futures::join!(write(&grid, &name, &content), write(&grid, &name, &content));
            assert_eq!((both.0.unwrap(), both.1.unwrap()), (1 << 20, 1 << 20));
        }),
    ]
}

fn present_rules() -> Vec<Rule> {
    vec![
        accepts(
            "REAPI CAS: early return",
            "a blob that is there is answered with its size at once",
            |grid| async move {
                let content = noise(411, 50_000);
                let digest = grid.put(content.clone()).await;
                // Only the first piece is sent, and the stream stays open: the answer comes all the same.
                let first = messages(&name(&digest), &content, 0, 10_000).remove(0);
                let endless =
                    futures::StreamExt::chain(futures::stream::iter([first]), futures::stream::pending());
                let answer = grid.bytestream().write(endless).await.unwrap().into_inner();
                assert_eq!(answer.committed_size, 50_000);
            },
        ),
        accepts(
            "REAPI CAS: early return",
            "a compressed upload of a blob that is there is answered with -1",
            |grid| async move {
                let content = noise(412, 50_000);
                let digest = grid.put(content.clone()).await;
                let packed = ::zstd::bulk::compress(&content, 1).unwrap();
                assert_eq!(write(&grid, &zstd_name(&digest), &packed).await.unwrap(), -1);
            },
        ),
        accepts(
            "BuildGrid disable-overwrite-early-return",
            "an instance that answers no write early takes it all",
            |grid| async move {
                let content = noise(413, 200_000);
                let digest = grid.put(content.clone()).await;
                let name = format!("uploads/{UUID}/blobs/{digest}");
                assert_eq!(write(&grid, &name, &content).await.unwrap(), 200_000);
            },
        ),
        accepts(
            "BuildGrid disable-overwrite-early-return",
            "a first message that finishes is answered though the stream stays open",
            |grid| async move {
                let content = noise(414, 1_000);
                let name = format!("uploads/{UUID}/blobs/{}", grid.put(content.clone()).await);
                let first = messages(&name, &content, 0, 10_000).remove(0);
                let endless =
                    futures::StreamExt::chain(futures::stream::iter([first]), futures::stream::pending());
                let answer = grid.bytestream().write(endless).await.unwrap().into_inner();
                assert_eq!(answer.committed_size, 1_000);
            },
        ),
        refuses(
            "BuildGrid disable-overwrite-early-return",
            "more than the size of a blob that is there is not taken",
            |grid| async move {
                let content = noise(415, 10_000);
                let name = format!("uploads/{UUID}/blobs/{}", grid.put(content.clone()).await);
                let mut first = messages(&name, &content, 0, 10_000).remove(0);
                first.finish_write = false;
                let more = WriteRequest { resource_name: String::new(), ..first.clone() };
                let endless =
                    futures::StreamExt::chain(futures::stream::iter([first]), futures::stream::repeat(more));
                refused(grid.bytestream().write(endless).await, Code::InvalidArgument);
            },
        ),
        accepts("REAPI CAS: empty blobs", "the empty blob can be written", |grid| async move {
            assert_eq!(write(&grid, &name(&sha256(b"")), b"").await.unwrap(), 0);
        }),
    ]
}

fn order_refusals() -> Vec<Rule> {
    vec![
        refuses(SOURCE, "a stream without messages is refused", |grid| async move {
            refused(send(&grid, vec![]).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a first message without a name is refused", |grid| async move {
            refused(write(&grid, "", b"x").await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "an offset that leaves a gap is refused and nothing stored", |grid| async move {
            let content = noise(421, 30);
            let digest = sha256(&content);
            let mut all = messages(&name(&digest), &content, 0, 10);
            all[1].write_offset += 1;
            let status = refused(send(&grid, all).await, Code::InvalidArgument);
            assert!(status.message().contains("write_offset"), "{status:?}");
            assert!(!grid.has(&digest).await);
        }),
        refuses(SOURCE, "an offset that goes back is refused", |grid| async move {
            let content = noise(422, 30);
            let mut all = messages(&name(&sha256(&content)), &content, 0, 10);
            all[2].write_offset = 10;
            refused(send(&grid, all).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a negative offset is refused", |grid| async move {
            let content = noise(423, 30);
            let all = messages(&name(&sha256(&content)), &content, -1, 100);
            refused(send(&grid, all).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a first offset past what is committed is refused", |grid| async move {
            let content = noise(424, 30);
            let all = messages(&name(&sha256(&content)), &content[10..], 10, 100);
            refused(send(&grid, all).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a name that changes is refused", |grid| async move {
            let content = noise(425, 30);
            let mut all = messages(&name(&sha256(&content)), &content, 0, 10);
            all[1].resource_name = name(&sha256(b"other"));
            refused(send(&grid, all).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a stream that ends without finish_write stores nothing", |grid| async move {
            let content = noise(426, 30);
            let digest = sha256(&content);
            let mut all = messages(&name(&digest), &content, 0, 10);
            all.last_mut().unwrap().finish_write = false;
            refused(send(&grid, all).await, Code::InvalidArgument);
            assert!(!grid.has(&digest).await);
        }),
        refuses("REAPI CAS: resource names", "a blob's name can't be written", |grid| async move {
            refused(
                write(&grid, &format!("{MAIN}/blobs/{}", sha256(b"x")), b"x").await,
                Code::InvalidArgument,
            );
        }),
        refuses("REAPI CAS: resource names", "malformed names are refused", |grid| async move {
            let hash = "a".repeat(64);
            for name in [
                "uploads".to_owned(),
                "uploads/u".into(),
                "uploads/u/blobs".into(),
                format!("uploads/u/blobs/{hash}"),
                format!("uploads/u/blobs/{hash}/x"),
                format!("uploads/u/{hash}/1"),
                format!("uploads//blobs/{hash}/1"),
                format!("uploads/u/v/blobs/{hash}/1"),
                format!("uploads/u/compressed-blobs/{hash}/1"),
                format!("uploads/u/compressed-blobs/gzip/{hash}/1"),
            ] {
                refused(write(&grid, &name, b"x").await, Code::InvalidArgument);
            }
        }),
        refuses(
            "REAPI CAS: resource-name header",
            "a header that differs from the name is refused",
            |grid| async move {
                let content = noise(427, 10);
                let mut request =
                    Request::new(futures::stream::iter(messages(&name(&sha256(&content)), &content, 0, 10)));
                request
                    .metadata_mut()
                    .insert("build.bazel.remote.execution.v2.resource-name", "other".parse().unwrap());
                refused(grid.bytestream().write(request).await, Code::InvalidArgument);
            },
        ),
    ]
}

fn content_refusals() -> Vec<Rule> {
    vec![
        refuses(
            SOURCE,
            "content that does not match its hash is refused and not stored",
            |grid| async move {
                let digest = sha256(&noise(431, 5_000));
                refused(write(&grid, &name(&digest), &noise(432, 5_000)).await, Code::InvalidArgument);
                assert!(!grid.has(&digest).await);
            },
        ),
        refuses(SOURCE, "content that is too short is refused and not stored", |grid| async move {
            let content = noise(433, 5_000);
            let digest = sha256(&content);
            refused(write(&grid, &name(&digest), &content[..4_999]).await, Code::InvalidArgument);
            assert!(!grid.has(&digest).await);
        }),
        refuses(SOURCE, "content that is too long is refused and not stored", |grid| async move {
            let content = noise(434, 5_000);
            let digest = sha256(&content);
            let longer = [&content[..], b"x"].concat();
            refused(write(&grid, &name(&digest), &longer).await, Code::InvalidArgument);
            assert!(!grid.has(&digest).await);
        }),
        refuses(
            "REAPI max_cas_blob_size_bytes",
            "a blob above the instance's limit is refused",
            |grid| async move {
                let content = noise(435, TIGHT_BLOB as usize + 1);
                let name = format!("{TIGHT}/uploads/{UUID}/blobs/{}", sha256(&content));
                refused(write(&grid, &name, &content).await, Code::InvalidArgument);
            },
        ),
        accepts(
            "REAPI max_cas_blob_size_bytes",
            "a blob of the instance's limit is taken",
            |grid| async move {
                let content = noise(436, TIGHT_BLOB as usize);
                let name = format!("{TIGHT}/uploads/{UUID}/blobs/{}", sha256(&content));
                assert_eq!(write(&grid, &name, &content).await.unwrap(), TIGHT_BLOB as i64);
            },
        ),
        refuses(
            "BuildGrid !bytestream read-only",
            "a read-only instance takes no blobs",
            |grid| async move {
                let content = noise(437, 10);
                let name = format!("{READ_ONLY}/uploads/{UUID}/blobs/{}", sha256(&content));
                refused(write(&grid, &name, &content).await, Code::PermissionDenied);
            },
        ),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            let name = format!("nope/uploads/{UUID}/blobs/{}", sha256(b"x"));
            refused(write(&grid, &name, b"x").await, Code::InvalidArgument);
        }),
        refuses("REAPI digest_function", "a function that is not advertised is refused", |grid| async move {
            let digest = Digest::of(DigestFunction::Sha512, b"x");
            let name = format!("{TIGHT}/uploads/{UUID}/blobs/{digest}");
            refused(write(&grid, &name, b"x").await, Code::InvalidArgument);
        }),
    ]
}
