//! Compressed writes, and what is known of a write.

use tonic::Code;

use crate::bytestream_write::{UUID, name, query, write, zstd_name};
use crate::grid::{MAIN, noise, refused, sha256};
use crate::rule::{Rule, accepts, refuses};

const COMPRESSED: &str = "REAPI CAS: compressed-blobs";

/// What is held to of compressed writes.
pub(crate) fn compressed_rules() -> Vec<Rule> {
    vec![
        accepts(COMPRESSED, "a compressed upload is stored unpacked", |grid| async move {
            let content = b"compressible 441 ".repeat(100_000);
            let digest = sha256(&content);
            let packed = ::zstd::bulk::compress(&content, 3).unwrap();
            assert_eq!(write(&grid, &zstd_name(&digest), &packed).await.unwrap(), packed.len() as i64);
            assert!(grid.has(&digest).await);
        }),
        accepts(COMPRESSED, "several zstd frames are one blob", |grid| async move {
            let (a, b) = (noise(442, 40_000), noise(443, 30_000));
            let digest = sha256(&[&a[..], &b].concat());
            let packed =
                [::zstd::bulk::compress(&a, 1).unwrap(), ::zstd::bulk::compress(&b, 1).unwrap()].concat();
            write(&grid, &zstd_name(&digest), &packed).await.unwrap();
            assert!(grid.has(&digest).await);
        }),
        refuses(COMPRESSED, "compressed garbage is refused and not stored", |grid| async move {
            let digest = sha256(&noise(444, 5_000));
            refused(write(&grid, &zstd_name(&digest), &noise(445, 5_000)).await, Code::InvalidArgument);
            assert!(!grid.has(&digest).await);
        }),
        refuses(COMPRESSED, "uncompressed content under a compressed name is refused", |grid| async move {
            let content = noise(446, 5_000);
            refused(write(&grid, &zstd_name(&sha256(&content)), &content).await, Code::InvalidArgument);
        }),
        refuses(COMPRESSED, "a frame that is cut off is refused and not stored", |grid| async move {
            let content = b"compressible 447 ".repeat(1_000);
            let digest = sha256(&content);
            let packed = ::zstd::bulk::compress(&content, 3).unwrap();
            let cut = &packed[..packed.len() - 3];
            refused(write(&grid, &zstd_name(&digest), cut).await, Code::InvalidArgument);
            assert!(!grid.has(&digest).await);
        }),
        refuses(COMPRESSED, "a compression bomb is refused", |grid| async move {
            let bomb = ::zstd::bulk::compress(&vec![0; 256 << 20], 3).unwrap();
            refused(write(&grid, &zstd_name(&sha256(&[0; 1000])), &bomb).await, Code::InvalidArgument);
        }),
        refuses(COMPRESSED, "a frame with a window above 8 MiB is refused", |grid| async move {
            let content = noise(448, 20 << 20);
            let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(27).unwrap();
            std::io::Write::write_all(&mut encoder, &content).unwrap();
            let packed = encoder.finish().unwrap();
            refused(write(&grid, &zstd_name(&sha256(&content)), &packed).await, Code::InvalidArgument);
        }),
        refuses(
            COMPRESSED,
            "compressed content of another blob is refused and not stored",
            |grid| async move {
                let claimed = noise(449, 5_000);
                let packed = ::zstd::bulk::compress(&noise(450, 5_000), 1).unwrap();
                refused(write(&grid, &zstd_name(&sha256(&claimed)), &packed).await, Code::InvalidArgument);
                assert!(!grid.has(&sha256(&claimed)).await);
            },
        ),
        refuses(COMPRESSED, "a compressed blob of another size is refused", |grid| async move {
            let content = noise(451, 5_000);
            let packed = ::zstd::bulk::compress(&content, 1).unwrap();
            let name = zstd_name(&sha256(&content)).replace("/5000", "/4999");
            refused(write(&grid, &name, &packed).await, Code::InvalidArgument);
        }),
    ]
}

/// What is held to of QueryWriteStatus.
pub(crate) fn query_rules() -> Vec<Rule> {
    const SOURCE: &str = "ByteStream QueryWriteStatus";
    vec![
        accepts(SOURCE, "a blob that is there is complete", |grid| async move {
            let digest = grid.put(noise(461, 123)).await;
            assert_eq!(query(&grid, &name(&digest)).await.unwrap(), (123, true));
        }),
        accepts(SOURCE, "a blob of which nothing came is at 0", |grid| async move {
            assert_eq!(query(&grid, &name(&sha256(b"absent 462"))).await.unwrap(), (0, false));
        }),
        refuses(SOURCE, "a failed upload is not complete", |grid| async move {
            let digest = sha256(&noise(463, 50));
            refused(write(&grid, &name(&digest), &noise(464, 50)).await, Code::InvalidArgument);
            assert_eq!(query(&grid, &name(&digest)).await.unwrap(), (0, false));
        }),
        refuses(SOURCE, "malformed names and blobs' names are refused", |grid| async move {
            for name in [String::new(), "x".into(), format!("{MAIN}/blobs/{}", sha256(b"x"))] {
                refused(query(&grid, &name).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            let name = format!("nope/uploads/{UUID}/blobs/{}", sha256(b"x"));
            refused(query(&grid, &name).await, Code::InvalidArgument);
        }),
    ]
}
