//! `GetChunkMapping`, `RegisterChunkMapping`, and `SplitBlob`, `SpliceBlob` of REAPI 2.12.

use grid_core::Digest;
use grid_proto::reapi::chunking_function::Value as ChunkingFunction;
use grid_proto::reapi::{
    self, BatchReadBlobsRequest, GetChunkMappingRequest, RegisterChunkMappingRequest, SpliceBlobRequest,
    SplitBlobRequest,
};
use grid_rpc::digests::to_wire;
use tonic::{Code, Status};

use crate::grid::{Grid, MAIN, READ_ONLY, TIGHT, malformed_digests, noise, refused, sha256, wire};
use crate::rule::{Rule, accepts, refuses};

const SPLIT: &str = "REAPI GetChunkMapping";
const SPLICE: &str = "REAPI RegisterChunkMapping";

async fn split(
    grid: &Grid,
    instance: &str,
    blob: Option<reapi::Digest>,
) -> Result<Vec<reapi::Digest>, Status> {
    let request =
        GetChunkMappingRequest { instance_name: instance.into(), blob_digest: blob, ..Default::default() };
    let mut stream = grid.cas().get_chunk_mapping(request).await?.into_inner();
    let (mut chunks, mut first) = (Vec::new(), true);
    while let Some(message) = stream.message().await? {
        if first {
            assert_eq!(message.chunking_function, ChunkingFunction::FastCdc2020 as i32);
        }
        first = false;
        chunks.extend(message.chunk_digests);
    }
    Ok(chunks)
}

async fn split_2_12(grid: &Grid, blob: &Digest) -> Vec<reapi::Digest> {
    let blob_digest = Some(to_wire(blob));
    let request = SplitBlobRequest { instance_name: MAIN.into(), blob_digest, ..Default::default() };
    grid.cas().split_blob(request).await.unwrap().into_inner().chunk_digests
}

fn registration(blob: &Digest, chunks: &[Digest]) -> RegisterChunkMappingRequest {
    RegisterChunkMappingRequest {
        instance_name: MAIN.into(),
        blob_digest: Some(to_wire(blob)),
        chunk_digests: chunks.iter().map(to_wire).collect(),
        ..Default::default()
    }
}

async fn register(grid: &Grid, messages: Vec<RegisterChunkMappingRequest>) -> Result<reapi::Digest, Status> {
    let answer = grid.cas().register_chunk_mapping(futures::stream::iter(messages)).await?;
    Ok(answer.into_inner().blob_digest.unwrap())
}

/// Two chunks that are stored, and the blob that they make.
async fn halves(grid: &Grid, seed: u64) -> (Digest, Vec<Digest>) {
    let (a, b) = (noise(seed, 3_000), noise(seed + 1, 2_000));
    let blob = sha256(&[&a[..], &b].concat());
    (blob, vec![grid.put(a).await, grid.put(b).await])
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = split_rules();
    rules.extend(splice_rules());
    rules.extend(splice_refusals());
    rules
}

fn split_rules() -> Vec<Rule> {
    vec![
        accepts(SPLIT, "the chunks are stored and make the blob", |grid| async move {
            let content = noise(701, 1 << 20);
            let blob = grid.put(content.clone()).await;
            let digests = split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap();
            assert!(digests.len() > 20);
            let request = BatchReadBlobsRequest { instance_name: MAIN.into(), digests, ..Default::default() };
            let chunks = grid.cas().batch_read_blobs(request).await.unwrap().into_inner().responses;
            assert!(chunks.iter().flat_map(|c| c.data.to_vec()).collect::<Vec<_>>() == content);
        }),
        accepts(SPLIT, "chunk sizes keep the advertised bounds", |grid| async move {
            let blob = grid.put(noise(702, 1 << 20)).await;
            let chunks = split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap();
            let (_, all_but_last) = chunks.split_last().unwrap();
            assert!(all_but_last.iter().all(|c| (4 << 10..=64 << 10).contains(&c.size_bytes)));
        }),
        accepts(SPLIT, "the same blob is split in the same way on every replica", |grid| async move {
            let blob = grid.put(noise(703, 1 << 20)).await;
            let here = split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap();
            let other = grid.other_replica();
            assert_eq!(split(&other, MAIN, Some(to_wire(&blob))).await.unwrap(), here);
            assert_eq!(split_2_12(&grid, &blob).await, here, "REAPI 2.12 gets the same");
        }),
        accepts(
            "REAPI FastCdc2020Params",
            "a blob below the largest chunk is not split",
            |grid| async move {
                let blob = grid.put(noise(704, (64 << 10) - 1)).await;
                assert_eq!(split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap(), [to_wire(&blob)]);
            },
        ),
        accepts(SPLIT, "chunks that have gone are made again", |grid| async move {
            let blob = grid.put(noise(705, 1 << 20)).await;
            let chunks = split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap();
            let first = Digest::parse_inferring(None, &chunks[0].hash, chunks[0].size_bytes).unwrap();
            grid.store.delete(&[first]).await.remove(0).unwrap();
            assert_eq!(split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap(), chunks);
            assert!(grid.has(&first).await);
        }),
        accepts(
            SPLIT,
            "every replica gives the same chunks of a blob that was registered with others",
            |grid| async move {
                let content = noise(736, 300_000);
                let mut chunks = Vec::new();
                for chunk in content.chunks(100_000) {
                    chunks.push(grid.put(chunk.to_vec()).await);
                }
                let blob = sha256(&content);
                register(&grid, vec![registration(&blob, &chunks)]).await.unwrap();
                let here = split(&grid, MAIN, Some(to_wire(&blob))).await.unwrap();
                let there = split(&grid.other_replica(), MAIN, Some(to_wire(&blob))).await.unwrap();
                assert_eq!(here, there);
                assert!(here.iter().all(|chunk| chunk.size_bytes <= 64 << 10), "they are the server's");
            },
        ),
        refuses("BuildGrid !cas read-only", "a read-only instance makes no chunks", |grid| async move {
            let content = noise(737, 200_000);
            let blob = grid.put(content).await;
            let found = split(&grid, READ_ONLY, Some(to_wire(&blob))).await.unwrap();
            assert_eq!(found, [to_wire(&blob)]);
            let chunks = split(&grid.other_replica(), MAIN, Some(to_wire(&blob))).await.unwrap();
            assert!(chunks.len() > 1);
        }),
        refuses(SPLIT, "a blob that is missing is NOT_FOUND", |grid| async move {
            refused(split(&grid, MAIN, Some(wire(b"absent 706"))).await, Code::NotFound);
            let large = reapi::Digest { size_bytes: 1 << 20, ..wire(b"absent 706") };
            refused(split(&grid, MAIN, Some(large)).await, Code::NotFound);
        }),
        refuses(SPLIT, "digests that are unset or malformed are refused", |grid| async move {
            refused(split(&grid, MAIN, None).await, Code::InvalidArgument);
            for digest in malformed_digests() {
                refused(split(&grid, MAIN, Some(digest)).await, Code::InvalidArgument);
            }
        }),
        refuses(
            "REAPI split_blob_support",
            "an instance that does not advertise it does not split",
            |grid| async move {
                refused(split(&grid, TIGHT, Some(wire(b""))).await, Code::Unimplemented);
            },
        ),
    ]
}

fn splice_rules() -> Vec<Rule> {
    vec![
        accepts(SPLICE, "chunks become a blob", |grid| async move {
            let (blob, chunks) = halves(&grid, 711).await;
            assert_eq!(register(&grid, vec![registration(&blob, &chunks)]).await.unwrap(), to_wire(&blob));
            assert!(grid.has(&blob).await);
        }),
        accepts(
            SPLICE,
            "the chunks may come in several messages, and only the first names the blob",
            |grid| async move {
                let (blob, chunks) = halves(&grid, 713).await;
                let rest = RegisterChunkMappingRequest {
                    instance_name: "ignored".into(),
                    blob_digest: Some(wire(b"ignored")),
                    ..registration(&blob, &chunks[1..])
                };
                register(&grid, vec![registration(&blob, &chunks[..1]), rest]).await.unwrap();
                assert!(grid.has(&blob).await);
            },
        ),
        accepts("REAPI SpliceBlob (2.12)", "the unary form makes the same blob", |grid| async move {
            let (blob, chunks) = halves(&grid, 715).await;
            let request = SpliceBlobRequest {
                instance_name: MAIN.into(),
                blob_digest: Some(to_wire(&blob)),
                chunk_digests: chunks.iter().map(to_wire).collect(),
                ..Default::default()
            };
            assert!(grid.cas().splice_blob(request).await.is_ok());
            assert!(grid.has(&blob).await);
        }),
        accepts(SPLICE, "a blob that is there already is accepted", |grid| async move {
            let blob = grid.put(noise(717, 50)).await;
            assert!(register(&grid, vec![registration(&blob, &[])]).await.is_ok());
        }),
        accepts(SPLICE, "a chunk may occur more than once", |grid| async move {
            let chunk = noise(718, 1_000);
            let blob = sha256(&chunk.repeat(3));
            let chunk = grid.put(chunk).await;
            register(&grid, vec![registration(&blob, &[chunk; 3])]).await.unwrap();
            assert!(grid.has(&blob).await);
        }),
    ]
}

fn splice_refusals() -> Vec<Rule> {
    vec![
        refuses(
            SPLICE,
            "a digest that the chunks do not have is refused and nothing stored",
            |grid| async move {
                let (_, chunks) = halves(&grid, 721).await;
                let wrong = sha256(&noise(723, 5_000));
                refused(register(&grid, vec![registration(&wrong, &chunks)]).await, Code::InvalidArgument);
                assert!(!grid.has(&wrong).await);
            },
        ),
        refuses(SPLICE, "chunks in another order are refused", |grid| async move {
            let (blob, mut chunks) = halves(&grid, 724).await;
            chunks.reverse();
            refused(register(&grid, vec![registration(&blob, &chunks)]).await, Code::InvalidArgument);
        }),
        refuses(SPLICE, "chunks of another total size are refused", |grid| async move {
            let (blob, chunks) = halves(&grid, 726).await;
            refused(register(&grid, vec![registration(&blob, &chunks[..1])]).await, Code::InvalidArgument);
        }),
        refuses(SPLICE, "a chunk that is missing is NOT_FOUND", |grid| async move {
            let (a, b) = (noise(728, 100), noise(729, 100));
            let blob = sha256(&[&a[..], &b].concat());
            let chunks = [grid.put(a).await, sha256(&b)];
            refused(register(&grid, vec![registration(&blob, &chunks)]).await, Code::NotFound);
        }),
        refuses(SPLICE, "a stream without messages is refused", |grid| async move {
            refused(register(&grid, vec![]).await, Code::InvalidArgument);
        }),
        refuses(SPLICE, "a first message without the blob's digest is refused", |grid| async move {
            let (blob, chunks) = halves(&grid, 730).await;
            let bad = RegisterChunkMappingRequest { blob_digest: None, ..registration(&blob, &chunks) };
            refused(register(&grid, vec![bad]).await, Code::InvalidArgument);
        }),
        refuses(SPLICE, "malformed chunk digests are refused", |grid| async move {
            for digest in malformed_digests() {
                let mut bad = registration(&sha256(b"732"), &[]);
                bad.chunk_digests.push(digest);
                refused(register(&grid, vec![bad]).await, Code::InvalidArgument);
            }
        }),
        refuses("BuildGrid !cas read-only", "a read-only instance splices nothing", |grid| async move {
            let (blob, chunks) = halves(&grid, 733).await;
            let bad = RegisterChunkMappingRequest {
                instance_name: READ_ONLY.into(),
                ..registration(&blob, &chunks)
            };
            refused(register(&grid, vec![bad]).await, Code::PermissionDenied);
        }),
        refuses(
            "REAPI splice_blob_support",
            "an instance that does not advertise it does not splice",
            |grid| async move {
                let (blob, chunks) = halves(&grid, 735).await;
                let bad = RegisterChunkMappingRequest {
                    instance_name: TIGHT.into(),
                    ..registration(&blob, &chunks)
                };
                refused(register(&grid, vec![bad]).await, Code::Unimplemented);
            },
        ),
    ]
}
