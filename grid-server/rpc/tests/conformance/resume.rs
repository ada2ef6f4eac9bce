//! Uploads that resume, on another replica too.

use futures::StreamExt;
use grid_proto::bytestream::WriteRequest;
use tonic::Code;

use crate::bytestream_write::{messages, name, query, send, zstd_name};
use crate::grid::{Grid, RESUME_FROM, noise, refused, sha256};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "ByteStream: resumable writes";
const SIZE: usize = 13 << 20;
const PIECE: usize = 512 << 10;

/// Sends the first `count` messages and then nothing; gives up once the server has kept `kept` bytes.
async fn cut(grid: &Grid, name: &str, all: &[WriteRequest], count: usize, kept: i64) {
    let some = futures::stream::iter(all[..count].to_vec()).chain(futures::stream::pending());
    let mut client = grid.bytestream();
    let writing = client.write(some);
    let watching = async {
        while query(grid, name).await.unwrap().0 < kept {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = writing => panic!("answered: {answer:?}"),
        () = watching => {}
    }
}

fn on_the_other(grid: &Grid) -> Grid {
    grid.other_replica()
}

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "an upload that was cut goes on on another replica", |grid| async move {
            let content = noise(501, SIZE);
            let digest = sha256(&content);
            let all = messages(&name(&digest), &content, 0, PIECE);
            cut(&grid, &name(&digest), &all, 18, 8 << 20).await;
            let other = on_the_other(&grid);
            let (committed, complete) = query(&other, &name(&digest)).await.unwrap();
            assert_eq!((committed, complete), (8 << 20, false), "of 9 MiB all whole parts of 4 MiB are kept");
            let rest = messages(&name(&digest), &content[committed as usize..], committed, PIECE);
            assert_eq!(send(&other, rest).await.unwrap(), SIZE as i64);
            assert!(grid.has(&digest).await);
            assert_eq!(query(&grid, &name(&digest)).await.unwrap(), (SIZE as i64, true));
        }),
        accepts(SOURCE, "a compressed upload goes on at an uncompressed offset", |grid| async move {
            let content = noise(502, SIZE);
            let digest = sha256(&content);
            let packed = ::zstd::bulk::compress(&content, 1).unwrap();
            let all = messages(&zstd_name(&digest), &packed, 0, PIECE);
            cut(&grid, &zstd_name(&digest), &all, 18, 8 << 20).await;
            let other = on_the_other(&grid);
            let committed = query(&other, &zstd_name(&digest)).await.unwrap().0;
            let rest = ::zstd::bulk::compress(&content[committed as usize..], 1).unwrap();
            let rest = messages(&zstd_name(&digest), &rest, committed, PIECE);
            send(&other, rest).await.unwrap();
            assert!(grid.has(&digest).await);
        }),
        accepts(SOURCE, "an upload may start again from 0", |grid| async move {
            let content = noise(503, SIZE);
            let digest = sha256(&content);
            let all = messages(&name(&digest), &content, 0, PIECE);
            cut(&grid, &name(&digest), &all, 10, 4 << 20).await;
            assert_eq!(send(&grid, all).await.unwrap(), SIZE as i64);
            assert!(grid.has(&digest).await);
        }),
        refuses(SOURCE, "an offset other than the committed one is refused", |grid| async move {
            let content = noise(504, SIZE);
            let digest = sha256(&content);
            let all = messages(&name(&digest), &content, 0, PIECE);
            cut(&grid, &name(&digest), &all, 10, 4 << 20).await;
            for offset in [1, 5 << 20, 2 << 20] {
                let rest = messages(&name(&digest), &content[offset as usize..], offset, PIECE);
                let status = refused(send(&grid, rest).await, Code::InvalidArgument);
                assert!(status.message().contains("4194304"), "it says where to go on: {status:?}");
            }
        }),
        refuses(SOURCE, "a resumed upload is verified as a whole", |grid| async move {
            let content = noise(505, SIZE);
            let digest = sha256(&content);
            let all = messages(&name(&digest), &noise(506, SIZE), 0, PIECE);
            cut(&grid, &name(&digest), &all, 10, 4 << 20).await;
            let rest = messages(&name(&digest), &content[4 << 20..], 4 << 20, PIECE);
            refused(send(&grid, rest).await, Code::InvalidArgument);
            assert!(!grid.has(&digest).await);
        }),
        refuses(SOURCE, "what was sent of other content is forgotten with it", |grid| async move {
            let (content, other) = (noise(509, SIZE), noise(510, SIZE));
            let digest = sha256(&content);
            refused(send(&grid, messages(&name(&digest), &other, 0, PIECE)).await, Code::InvalidArgument);
            assert_eq!(query(&grid, &name(&digest)).await.unwrap(), (0, false));
            assert_eq!(send(&grid, messages(&name(&digest), &content, 0, PIECE)).await.unwrap(), SIZE as i64);
        }),
        refuses(SOURCE, "another upload of the same blob does not see the parts", |grid| async move {
            let content = noise(507, SIZE);
            let digest = sha256(&content);
            let all = messages(&name(&digest), &content, 0, PIECE);
            cut(&grid, &name(&digest), &all, 10, 4 << 20).await;
            let other = name(&digest).replace("0b7c1f1e", "ffffffff");
            assert_eq!(query(&grid, &other).await.unwrap(), (0, false));
        }),
        refuses(SOURCE, "uploads below the threshold keep nothing", |grid| async move {
            let content = noise(508, RESUME_FROM as usize - 1);
            let digest = sha256(&content);
            let mut all = messages(&name(&digest), &content, 0, PIECE);
            all.pop();
            refused(send(&grid, all).await, Code::InvalidArgument);
            assert_eq!(query(&grid, &name(&digest)).await.unwrap(), (0, false));
        }),
    ]
}
