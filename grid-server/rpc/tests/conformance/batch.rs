//! `BatchUpdateBlobs` and `BatchReadBlobs`.

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::batch_read_blobs_response::Response as Read;
use grid_proto::reapi::batch_update_blobs_request::Request;
use grid_proto::reapi::batch_update_blobs_response::Response as Updated;
use grid_proto::reapi::compressor::Value as Compressor;
use grid_proto::reapi::{self, BatchReadBlobsRequest, BatchUpdateBlobsRequest};
use grid_rpc::digests::to_wire;
use tonic::{Code, Status};

use crate::grid::{
    Grid, MAIN, READ_ONLY, TIGHT, TIGHT_BATCH, TIGHT_BLOB, malformed_digests, noise, refused, sha256, wire,
};
use crate::rule::{Rule, accepts, refuses};

const UPDATE: &str = "REAPI BatchUpdateBlobs";
const READ: &str = "REAPI BatchReadBlobs";

fn plain(content: &[u8]) -> Request {
    Request { digest: Some(wire(content)), data: Bytes::copy_from_slice(content), compressor: 0 }
}

fn zstd(content: &[u8]) -> Request {
    let data = ::zstd::bulk::compress(content, 3).unwrap().into();
    Request { data, compressor: Compressor::Zstd as i32, ..plain(content) }
}

async fn update_in(grid: &Grid, instance: &str, requests: Vec<Request>) -> Result<Vec<Updated>, Status> {
    let request = BatchUpdateBlobsRequest { instance_name: instance.into(), requests, digest_function: 0 };
    Ok(grid.cas().batch_update_blobs(request).await?.into_inner().responses)
}

async fn update(grid: &Grid, requests: Vec<Request>) -> Vec<i32> {
    let responses = update_in(grid, MAIN, requests).await.unwrap();
    responses.into_iter().map(|r| r.status.unwrap().code).collect()
}

async fn read_as(
    grid: &Grid,
    instance: &str,
    digests: Vec<reapi::Digest>,
    acceptable_compressors: Vec<i32>,
) -> Result<Vec<Read>, Status> {
    let instance_name = instance.into();
    let request =
        BatchReadBlobsRequest { instance_name, digests, acceptable_compressors, digest_function: 0 };
    Ok(grid.cas().batch_read_blobs(request).await?.into_inner().responses)
}

async fn read(grid: &Grid, digests: Vec<reapi::Digest>) -> Vec<Read> {
    read_as(grid, MAIN, digests, vec![]).await.unwrap()
}

fn code(read: &Read) -> Code {
    Code::from_i32(read.status.as_ref().map_or(0, |s| s.code))
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = update_rules();
    rules.extend(update_refusals());
    rules.extend(read_rules());
    rules
}

fn update_rules() -> Vec<Rule> {
    vec![
        accepts(UPDATE, "blobs are stored and can be read", |grid| async move {
            let (a, b) = (noise(201, 100), noise(202, 2000));
            assert_eq!(update(&grid, vec![plain(&a), plain(&b)]).await, [0, 0]);
            let contents: Vec<_> =
                read(&grid, vec![wire(&b), wire(&a)]).await.into_iter().map(|r| r.data).collect();
            assert_eq!(contents, [Bytes::from(b), Bytes::from(a)]);
        }),
        accepts(UPDATE, "answers are in the order asked and carry their digests", |grid| async move {
            let (a, b) = (noise(203, 10), noise(204, 10));
            let bad = Request { digest: Some(wire(b"other")), ..plain(&a) };
            let answers = update_in(&grid, MAIN, vec![plain(&a), bad, plain(&b)]).await.unwrap();
            let digests: Vec<_> = answers.iter().map(|r| r.digest.clone().unwrap()).collect();
            assert_eq!(digests, [wire(&a), wire(b"other"), wire(&b)]);
        }),
        accepts(UPDATE, "storing a blob again succeeds", |grid| async move {
            let a = noise(205, 10);
            assert_eq!(update(&grid, vec![plain(&a), plain(&a)]).await, [0, 0]);
            assert_eq!(update(&grid, vec![plain(&a)]).await, [0]);
        }),
        accepts(UPDATE, "no blobs, no answers", |grid| async move {
            assert!(update(&grid, vec![]).await.is_empty());
        }),
        accepts("REAPI CAS: empty blobs", "the empty blob can be stored", |grid| async move {
            assert_eq!(update(&grid, vec![plain(b"")]).await, [0]);
        }),
        accepts(
            "REAPI BatchUpdateBlobsRequest.compressor",
            "zstd content is stored unpacked",
            |grid| async move {
                let content = b"compressible ".repeat(500);
                assert_eq!(update(&grid, vec![zstd(&content)]).await, [0]);
                assert_eq!(read(&grid, vec![wire(&content)]).await[0].data, content);
            },
        ),
        accepts(
            "REAPI digest_function",
            "every advertised function is verified and stored",
            |grid| async move {
                for function in DigestFunction::ALL {
                    let content = noise(206, 33);
                    let digest = Some(to_wire(&Digest::of(function, &content)));
                    let requests = vec![Request { digest, data: content.into(), compressor: 0 }];
                    let digest_function = function.to_wire();
                    let request =
                        BatchUpdateBlobsRequest { instance_name: MAIN.into(), requests, digest_function };
                    let answer = grid.cas().batch_update_blobs(request).await.unwrap().into_inner();
                    assert_eq!(answer.responses[0].status.as_ref().unwrap().code, 0, "{function}");
                }
            },
        ),
        accepts(UPDATE, "a batch of the advertised size is taken", |grid| async move {
            let size = TIGHT_BATCH as usize / 2;
            let blobs = vec![plain(&noise(207, size)), plain(&noise(208, size))];
            let answers = update_in(&grid, TIGHT, blobs).await.unwrap();
            assert!(answers.iter().all(|r| r.status.as_ref().unwrap().code == 0));
        }),
    ]
}

fn update_refusals() -> Vec<Rule> {
    const BAD: i32 = Code::InvalidArgument as i32;
    vec![
        refuses(
            UPDATE,
            "content that does not match its hash is refused and not stored",
            |grid| async move {
                let claimed = noise(211, 40);
                let bad =
                    Request { digest: Some(wire(&claimed)), data: noise(212, 40).into(), compressor: 0 };
                assert_eq!(update(&grid, vec![bad]).await, [BAD]);
                assert!(!grid.has(&sha256(&claimed)).await);
            },
        ),
        refuses(UPDATE, "content of another size is refused and not stored", |grid| async move {
            let content = noise(213, 40);
            for size_bytes in [39, 41, 0] {
                let digest = Some(reapi::Digest { size_bytes, ..wire(&content) });
                let bad = Request { digest, data: content.clone().into(), compressor: 0 };
                assert_eq!(update(&grid, vec![bad]).await, [BAD]);
            }
            assert!(!grid.has(&sha256(&content)).await);
        }),
        refuses(UPDATE, "one bad blob does not harm the others", |grid| async move {
            let good = noise(214, 40);
            let bad = Request { digest: Some(wire(b"other 214")), ..plain(&noise(215, 40)) };
            assert_eq!(update(&grid, vec![bad, plain(&good)]).await, [BAD, 0]);
            assert!(grid.has(&sha256(&good)).await);
        }),
        refuses("REAPI Digest", "malformed digests are refused one by one", |grid| async move {
            for digest in malformed_digests() {
                let bad = Request { digest: Some(digest), data: Bytes::from_static(b"x"), compressor: 0 };
                assert_eq!(update(&grid, vec![bad, plain(b"fine 216")]).await, [BAD, 0]);
            }
        }),
        refuses("REAPI Digest", "a blob without a digest is refused", |grid| async move {
            let bad = Request { digest: None, ..plain(b"x") };
            assert_eq!(update(&grid, vec![bad]).await, [BAD]);
        }),
        refuses(UPDATE, "a batch above the advertised size is refused whole", |grid| async move {
            let size = TIGHT_BATCH as usize / 2 + 1;
            let (a, b) = (noise(217, size), noise(218, size));
            refused(update_in(&grid, TIGHT, vec![plain(&a), plain(&b)]).await, Code::InvalidArgument);
            assert!(!grid.has(&sha256(&a)).await);
        }),
        refuses(
            "REAPI max_cas_blob_size_bytes",
            "a blob above the instance's limit is refused",
            |grid| async move {
                let content = noise(219, TIGHT_BLOB as usize + 1);
                let answers = update_in(&grid, TIGHT, vec![plain(&content)]).await.unwrap();
                assert_eq!(answers[0].status.as_ref().unwrap().code, BAD);
            },
        ),
        refuses("BuildGrid !cas read-only", "a read-only instance takes no blobs", |grid| async move {
            let result = update_in(&grid, READ_ONLY, vec![plain(&noise(220, 10))]).await;
            refused(result, Code::PermissionDenied);
        }),
        refuses(UPDATE, "an instance that does not exist is refused", |grid| async move {
            refused(update_in(&grid, "nope", vec![]).await, Code::InvalidArgument);
        }),
        refuses(
            "REAPI BatchUpdateBlobsRequest.compressor",
            "compressors that are not advertised are refused",
            |grid| async move {
                for compressor in [Compressor::Deflate as i32, Compressor::Brotli as i32, 77, -1] {
                    let bad = Request { compressor, ..plain(b"x") };
                    assert_eq!(update(&grid, vec![bad]).await, [BAD]);
                }
            },
        ),
        refuses(
            "REAPI BatchUpdateBlobsRequest.compressor",
            "compressed garbage is refused",
            |grid| async move {
                let content = b"compressible 221 ".repeat(100);
                let garbage = Request { data: noise(221, 500).into(), ..zstd(&content) };
                let good = zstd(&content);
                let cut = Request { data: good.data.slice(..good.data.len() - 2), ..good.clone() };
                let trailing = Request { data: [&good.data[..], b"junk"].concat().into(), ..good };
                assert_eq!(update(&grid, vec![garbage, cut, trailing]).await, [BAD, BAD, BAD]);
                assert!(!grid.has(&sha256(&content)).await);
            },
        ),
        refuses(
            "REAPI BatchUpdateBlobsRequest.compressor",
            "a compression bomb is refused",
            |grid| async move {
                let bomb = ::zstd::bulk::compress(&vec![0; 256 << 20], 3).unwrap();
                let digest = Some(wire(&[0; 1000]));
                let bad = Request { digest, data: bomb.into(), compressor: Compressor::Zstd as i32 };
                assert_eq!(update(&grid, vec![bad]).await, [BAD]);
            },
        ),
        refuses(
            "REAPI BatchUpdateBlobsRequest.compressor",
            "compressed content of another blob is refused",
            |grid| async move {
                let digest = Some(wire(b"another blob"));
                let bad = Request { digest, ..zstd(b"not that one") };
                assert_eq!(update(&grid, vec![bad]).await, [BAD]);
            },
        ),
    ]
}

fn read_rules() -> Vec<Rule> {
    vec![
        accepts("REAPI CAS: empty blobs", "the empty blob can be read", |grid| async move {
            let answers = read(&grid, vec![wire(b"")]).await;
            assert_eq!((code(&answers[0]), answers[0].data.len()), (Code::Ok, 0));
        }),
        accepts(READ, "a blob asked twice is given twice", |grid| async move {
            let digest = to_wire(&grid.put(noise(231, 20)).await);
            let answers = read(&grid, vec![digest.clone(), digest]).await;
            assert_eq!(answers.len(), 2);
            assert_eq!(answers[0].data, answers[1].data);
        }),
        accepts(
            "REAPI acceptable_compressors",
            "zstd is used only where it is accepted",
            |grid| async move {
                let content = b"compressible 232 ".repeat(500);
                let digest = to_wire(&grid.put(content.clone()).await);
                let plain = read(&grid, vec![digest.clone()]).await.remove(0);
                assert_eq!((plain.compressor, &plain.data[..]), (0, &content[..]));
                let packed = read_as(&grid, MAIN, vec![digest], vec![Compressor::Zstd as i32])
                    .await
                    .unwrap()
                    .remove(0);
                assert_eq!(packed.compressor, Compressor::Zstd as i32);
                assert!(packed.data.len() < content.len() / 5);
                assert_eq!(::zstd::bulk::decompress(&packed.data, 1 << 20).unwrap(), content);
            },
        ),
        accepts(
            "REAPI acceptable_compressors",
            "content that does not shrink is given as it is",
            |grid| async move {
                let digest = to_wire(&grid.put(noise(233, 5000)).await);
                let answer = read_as(&grid, MAIN, vec![digest], vec![Compressor::Zstd as i32])
                    .await
                    .unwrap()
                    .remove(0);
                assert_eq!((answer.compressor, answer.data.len()), (0, 5000));
            },
        ),
        accepts(
            "REAPI acceptable_compressors",
            "unknown compressors in the list are passed over",
            |grid| async move {
                let digest = to_wire(&grid.put(noise(234, 50)).await);
                let answers = read_as(&grid, MAIN, vec![digest], vec![3, 99]).await.unwrap();
                assert_eq!((code(&answers[0]), answers[0].compressor), (Code::Ok, 0));
            },
        ),
        refuses(READ, "a blob that is missing is NOT_FOUND in its own answer", |grid| async move {
            let there = to_wire(&grid.put(noise(235, 20)).await);
            let answers = read(&grid, vec![wire(b"absent 235"), there]).await;
            assert_eq!((code(&answers[0]), code(&answers[1])), (Code::NotFound, Code::Ok));
            assert!(answers[0].data.is_empty());
        }),
        refuses("REAPI Digest", "malformed digests are refused in their own answers", |grid| async move {
            let there = to_wire(&grid.put(noise(236, 20)).await);
            for digest in malformed_digests() {
                let answers = read(&grid, vec![digest, there.clone()]).await;
                assert_eq!((code(&answers[0]), code(&answers[1])), (Code::InvalidArgument, Code::Ok));
            }
        }),
        refuses(READ, "a batch above the advertised size is refused whole", |grid| async move {
            let digest = reapi::Digest { size_bytes: TIGHT_BATCH as i64 / 2 + 1, ..wire(b"x") };
            let result = read_as(&grid, TIGHT, vec![digest.clone(), digest], vec![]).await;
            refused(result, Code::InvalidArgument);
        }),
        refuses(READ, "sizes that overflow together are refused", |grid| async move {
            let digest = reapi::Digest { size_bytes: i64::MAX, ..wire(b"x") };
            refused(read_as(&grid, MAIN, vec![digest; 4], vec![]).await, Code::InvalidArgument);
        }),
        refuses(READ, "an instance that does not exist is refused", |grid| async move {
            refused(read_as(&grid, "nope", vec![], vec![]).await, Code::InvalidArgument);
        }),
    ]
}
