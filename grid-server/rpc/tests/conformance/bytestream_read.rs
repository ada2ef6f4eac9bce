//! `ByteStream.Read` of blobs.

use grid_core::{Digest, DigestFunction};
use grid_proto::bytestream::ReadRequest;
use tonic::{Code, Request, Status};

use crate::grid::{Grid, MAIN, TIGHT, noise, refused, sha256};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "ByteStream Read";
const COMPRESSED: &str = "REAPI CAS: compressed-blobs";

pub(crate) async fn read(
    grid: &Grid,
    name: &str,
    read_offset: i64,
    read_limit: i64,
) -> Result<Vec<u8>, Status> {
    let request = ReadRequest { resource_name: name.into(), read_offset, read_limit };
    let mut stream = grid.bytestream().read(request).await?.into_inner();
    let mut content = Vec::new();
    while let Some(message) = stream.message().await? {
        assert!(message.data.len() <= 2 << 20, "clients take messages of 4 MiB");
        content.extend_from_slice(&message.data);
    }
    Ok(content)
}

fn name(digest: &Digest) -> String {
    format!("{MAIN}/blobs/{digest}")
}

fn zstd_name(digest: &Digest) -> String {
    format!("{MAIN}/compressed-blobs/zstd/{digest}")
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = plain_rules();
    rules.extend(compressed_rules());
    rules.extend(refusals());
    rules
}

fn plain_rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "a blob is read whole", |grid| async move {
            let content = noise(301, 3 << 20);
            let digest = grid.put(content.clone()).await;
            assert!(read(&grid, &name(&digest), 0, 0).await.unwrap() == content);
        }),
        accepts(SOURCE, "read_offset leaves the beginning out", |grid| async move {
            let content = noise(302, 300_000);
            let digest = grid.put(content.clone()).await;
            for offset in [1, 131_072, 299_999] {
                assert!(read(&grid, &name(&digest), offset, 0).await.unwrap() == content[offset as usize..]);
            }
        }),
        accepts(SOURCE, "read_offset at the end gives nothing", |grid| async move {
            let digest = grid.put(noise(303, 10)).await;
            assert!(read(&grid, &name(&digest), 10, 0).await.unwrap().is_empty());
        }),
        accepts(SOURCE, "read_limit bounds what is given", |grid| async move {
            let content = noise(304, 300_000);
            let digest = grid.put(content.clone()).await;
            assert!(read(&grid, &name(&digest), 0, 7).await.unwrap() == content[..7]);
            assert!(read(&grid, &name(&digest), 100, 200_000).await.unwrap() == content[100..200_100]);
        }),
        accepts(SOURCE, "a read_limit past the end gives what there is", |grid| async move {
            let content = noise(305, 10);
            let digest = grid.put(content.clone()).await;
            assert_eq!(read(&grid, &name(&digest), 4, i64::MAX).await.unwrap(), content[4..]);
        }),
        accepts(
            "REAPI CAS: empty blobs",
            "the empty blob is read without having been stored",
            |grid| async move {
                assert!(read(&grid, &name(&sha256(b"")), 0, 0).await.unwrap().is_empty());
            },
        ),
        accepts("REAPI CAS: resource names", "the digest function may be named", |grid| async move {
            let content = noise(306, 40);
            let digest = Digest::of(DigestFunction::Blake3, &content);
            grid.store.write_batch(vec![(digest, content.clone().into())]).await.remove(0).unwrap();
            let name = format!("{MAIN}/blobs/blake3/{digest}");
            assert_eq!(read(&grid, &name, 0, 0).await.unwrap(), content);
        }),
        accepts(
            "REAPI CAS: resource names",
            "the unnamed instance has no leading slash",
            |grid| async move {
                let content = noise(307, 40);
                let digest = grid.put(content.clone()).await;
                assert_eq!(read(&grid, &format!("blobs/{digest}"), 0, 0).await.unwrap(), content);
            },
        ),
        accepts(
            "REAPI CAS: resource-name header",
            "a header that matches the name is taken",
            |grid| async move {
                let digest = grid.put(noise(308, 40)).await;
                let message = ReadRequest { resource_name: name(&digest), ..ReadRequest::default() };
                let mut request = Request::new(message);
                let header = name(&digest).parse().unwrap();
                request.metadata_mut().insert("build.bazel.remote.execution.v2.resource-name", header);
                assert!(grid.bytestream().read(request).await.is_ok());
            },
        ),
    ]
}

fn compressed_rules() -> Vec<Rule> {
    vec![
        accepts(COMPRESSED, "a blob is read compressed", |grid| async move {
            let content = b"compressible 311 ".repeat(100_000);
            let digest = grid.put(content.clone()).await;
            let packed = read(&grid, &zstd_name(&digest), 0, 0).await.unwrap();
            assert!(packed.len() < content.len() / 5);
            assert!(::zstd::stream::decode_all(&packed[..]).unwrap() == content);
        }),
        accepts(COMPRESSED, "read_offset counts uncompressed bytes", |grid| async move {
            let content = b"compressible 312 ".repeat(50_000);
            let digest = grid.put(content.clone()).await;
            let packed = read(&grid, &zstd_name(&digest), 400_001, 0).await.unwrap();
            assert!(::zstd::stream::decode_all(&packed[..]).unwrap() == content[400_001..]);
        }),
        accepts(COMPRESSED, "what does not compress is a frame all the same", |grid| async move {
            let content = noise(313, 500_000);
            let digest = grid.put(content.clone()).await;
            let packed = read(&grid, &zstd_name(&digest), 0, 0).await.unwrap();
            assert!(::zstd::stream::decode_all(&packed[..]).unwrap() == content);
        }),
        accepts(COMPRESSED, "the empty blob is a frame with nothing in it", |grid| async move {
            let packed = read(&grid, &zstd_name(&sha256(b"")), 0, 0).await.unwrap();
            assert!(::zstd::stream::decode_all(&packed[..]).unwrap().is_empty());
        }),
        refuses(COMPRESSED, "read_limit with compression is refused", |grid| async move {
            let digest = grid.put(noise(314, 500)).await;
            refused(read(&grid, &zstd_name(&digest), 0, 10).await, Code::InvalidArgument);
        }),
        refuses(COMPRESSED, "compressors that are not advertised are refused", |grid| async move {
            let digest = grid.put(noise(315, 500)).await;
            for compressor in ["deflate", "brotli", "identity", "ZSTD", ""] {
                let name = format!("{MAIN}/compressed-blobs/{compressor}/{digest}");
                refused(read(&grid, &name, 0, 0).await, Code::InvalidArgument);
            }
        }),
        refuses(COMPRESSED, "read_offset past the uncompressed end is OUT_OF_RANGE", |grid| async move {
            let digest = grid.put(noise(316, 500)).await;
            refused(read(&grid, &zstd_name(&digest), 501, 0).await, Code::OutOfRange);
        }),
    ]
}

fn refusals() -> Vec<Rule> {
    vec![
        refuses(SOURCE, "a blob that is missing is NOT_FOUND", |grid| async move {
            refused(read(&grid, &name(&sha256(b"absent 321")), 0, 0).await, Code::NotFound);
            refused(read(&grid, &zstd_name(&sha256(b"absent 321")), 0, 0).await, Code::NotFound);
        }),
        refuses(SOURCE, "read_offset past the end is OUT_OF_RANGE", |grid| async move {
            let digest = grid.put(noise(322, 10)).await;
            refused(read(&grid, &name(&digest), 11, 0).await, Code::OutOfRange);
            refused(read(&grid, &name(&digest), i64::MAX, 0).await, Code::OutOfRange);
        }),
        refuses(SOURCE, "a negative read_offset is OUT_OF_RANGE", |grid| async move {
            let digest = grid.put(noise(323, 10)).await;
            refused(read(&grid, &name(&digest), -1, 0).await, Code::OutOfRange);
        }),
        refuses(SOURCE, "a negative read_limit is refused", |grid| async move {
            let digest = grid.put(noise(324, 10)).await;
            refused(read(&grid, &name(&digest), 0, -1).await, Code::InvalidArgument);
        }),
        refuses("REAPI CAS: resource names", "malformed names are refused", |grid| async move {
            let hash = "a".repeat(64);
            for name in [
                String::new(),
                "main".into(),
                "main/blobs".into(),
                format!("main/blobs/{hash}"),
                format!("main/blobs/{hash}/"),
                format!("main/blobs/{hash}/x"),
                format!("main/blobs/{hash}/-1"),
                format!("main/blobs/{hash}/+1"),
                format!("main/blobs/{hash}/99999999999999999999"),
                format!("main/blobs/{}/1", hash.to_uppercase()),
                format!("main/blobs/{}/1", &hash[1..]),
                format!("main/blobs/{hash}/1/extra"),
                format!("main/blobs/sha999/{hash}/1"),
                format!("main/blobs/md5/{hash}/1"),
                format!("main//blobs/{hash}/1"),
                format!("/blobs/{hash}/1"),
            ] {
                refused(read(&grid, &name, 0, 0).await, Code::InvalidArgument);
            }
        }),
        refuses("REAPI CAS: resource names", "an upload's name can't be read", |grid| async move {
            let name = format!("{MAIN}/uploads/u/blobs/{}", sha256(b""));
            refused(read(&grid, &name, 0, 0).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            refused(read(&grid, &format!("nope/blobs/{}", sha256(b"")), 0, 0).await, Code::InvalidArgument);
        }),
        refuses("REAPI digest_function", "a function that is not advertised is refused", |grid| async move {
            let digest = Digest::of(DigestFunction::Blake3, b"x");
            let name = format!("{TIGHT}/blobs/blake3/{digest}");
            refused(read(&grid, &name, 0, 0).await, Code::InvalidArgument);
        }),
        refuses(
            "REAPI CAS: resource-name header",
            "a header that differs from the name is refused",
            |grid| async move {
                let digest = grid.put(noise(325, 40)).await;
                let message = ReadRequest { resource_name: name(&digest), ..ReadRequest::default() };
                let mut request = Request::new(message);
                request
                    .metadata_mut()
                    .insert("build.bazel.remote.execution.v2.resource-name", "other".parse().unwrap());
                refused(grid.bytestream().read(request).await, Code::InvalidArgument);
            },
        ),
    ]
}
