//! `ContentAddressableStorage.FindMissingBlobs`.

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{self, FindMissingBlobsRequest};
use grid_rpc::digests::to_wire;
use tonic::{Code, Status};

use crate::grid::{Grid, MAIN, TIGHT, malformed_digests, noise, refused, sha256, wire};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "REAPI FindMissingBlobs";

async fn find(
    grid: &Grid,
    instance: &str,
    digest_function: i32,
    blob_digests: Vec<reapi::Digest>,
) -> Result<Vec<reapi::Digest>, Status> {
    let request = FindMissingBlobsRequest { instance_name: instance.into(), blob_digests, digest_function };
    Ok(grid.cas().find_missing_blobs(request).await?.into_inner().missing_blob_digests)
}

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "only blobs that are absent are missing", |grid| async move {
            let there = to_wire(&grid.put(noise(101, 50)).await);
            let absent = wire(b"absent 102");
            let missing = find(&grid, MAIN, 0, vec![there, absent.clone()]).await.unwrap();
            assert_eq!(missing, [absent]);
        }),
        accepts(SOURCE, "no digests, none missing", |grid| async move {
            assert!(find(&grid, MAIN, 0, vec![]).await.unwrap().is_empty());
        }),
        accepts(SOURCE, "a digest asked twice is missing once", |grid| async move {
            let absent = wire(b"absent 103");
            let missing = find(&grid, MAIN, 0, vec![absent.clone(), absent.clone()]).await.unwrap();
            assert_eq!(missing, [absent]);
        }),
        accepts(
            "REAPI CAS: empty blobs",
            "the empty blob is never missing, in any function",
            |grid| async move {
                for function in DigestFunction::ALL {
                    let empty = to_wire(&Digest::of(function, b""));
                    assert!(find(&grid, MAIN, function.to_wire(), vec![empty]).await.unwrap().is_empty());
                }
            },
        ),
        refuses(SOURCE, "the same hash with another size is another blob", |grid| async move {
            let mut digest = to_wire(&grid.put(noise(104, 60)).await);
            digest.size_bytes += 1;
            assert_eq!(find(&grid, MAIN, 0, vec![digest.clone()]).await.unwrap(), [digest]);
        }),
        refuses(SOURCE, "the same hash in another function is another blob", |grid| async move {
            let digest = to_wire(&grid.put(noise(105, 60)).await);
            let function = DigestFunction::Blake3.to_wire();
            assert_eq!(find(&grid, MAIN, function, vec![digest.clone()]).await.unwrap(), [digest]);
        }),
        accepts(
            "REAPI digest_function",
            "the function is told by the hash's length where it is not named",
            |grid| async move {
                let content = noise(106, 60);
                let digest = Digest::of(DigestFunction::Sha384, &content);
                grid.store.write_batch(vec![(digest, content.into())]).await.remove(0).unwrap();
                assert!(find(&grid, MAIN, 0, vec![to_wire(&digest)]).await.unwrap().is_empty());
            },
        ),
        refuses("REAPI digest_function", "a function that is not advertised is refused", |grid| async move {
            for function in [DigestFunction::Blake3.to_wire(), 4, 7, 8, 10, 99, -5] {
                let status = refused(find(&grid, TIGHT, function, vec![]).await, Code::InvalidArgument);
                assert!(status.message().contains("digest_function"), "{status:?}");
            }
        }),
        refuses(
            "REAPI digest_function",
            "a hash of an inferred function that is not advertised is refused",
            |grid| async move {
                let md5 = to_wire(&Digest::of(DigestFunction::Md5, b"x"));
                refused(find(&grid, TIGHT, 0, vec![md5]).await, Code::InvalidArgument);
            },
        ),
        refuses(
            "REAPI digest_function",
            "a hash that has not the named function's length is refused",
            |grid| async move {
                let function = DigestFunction::Sha512.to_wire();
                refused(find(&grid, MAIN, function, vec![wire(b"x")]).await, Code::InvalidArgument);
            },
        ),
        refuses("REAPI Digest", "malformed digests are refused by name of the field", |grid| async move {
            for digest in malformed_digests() {
                let result = find(&grid, MAIN, 0, vec![wire(b"fine"), digest.clone()]).await;
                let status = refused(result, Code::InvalidArgument);
                assert!(status.message().contains("blob_digests"), "{digest:?}: {status:?}");
                assert!(!status.details().is_empty(), "BadRequest names the field");
            }
        }),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            refused(find(&grid, "nope", 0, vec![]).await, Code::InvalidArgument);
        }),
        accepts(SOURCE, "many digests are answered in the order asked", |grid| async move {
            let there = to_wire(&grid.put(noise(107, 10)).await);
            let mut digests: Vec<_> = (0..10_000).map(|i: i32| wire(&i.to_le_bytes())).collect();
            digests.insert(5_000, there);
            let missing = find(&grid, MAIN, 0, digests.clone()).await.unwrap();
            digests.remove(5_000);
            assert_eq!(missing, digests);
        }),
        refuses(
            "gRPC message size",
            "a message above the limit is refused, and the server goes on",
            |grid| async move {
                let digests = vec![wire(b"x"); 300_000];
                assert!(find(&grid, MAIN, 0, digests).await.is_err());
                assert!(!grid.has(&sha256(b"not there 108")).await);
                assert!(find(&grid, MAIN, 0, vec![]).await.unwrap().is_empty());
            },
        ),
    ]
}
