//! The loads: so many requests of one kind, or of several as a build makes them, sixteen at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use grid_proto::reapi::{ActionResult, Digest, Directory, DirectoryNode, FileNode, OutputFile};
use prost::Message as _;

use crate::blobs::{digest, noise};
use crate::calls::Calls;

const AT_A_TIME: usize = 16;
const SMALL: usize = 1 << 10;
const LARGE: usize = 1 << 20;
/// How many blobs are there, and how many digests are asked for.
const STORED: u64 = 500;
const ASKED: u64 = 1_000;
const MISSING: usize = 500;
/// How many results there are.
const RESULTS: u64 = 1_000;
const DIRECTORIES: usize = 1_000;

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
    Tree,
    Result,
    Record,
    Mix,
}

const fn load(name: &'static str, wanted: &'static str, requests: u32, kind: Kind) -> Load {
    Load { name, wanted, requests, kind }
}

/// All of them.
pub(crate) const LOADS: &[Load] = &[
    load("GetTree, 1,000 directories", "1.2", 200, Kind::Tree),
    load("GetActionResult", "0.040", 20_000, Kind::Result),
    load("UpdateActionResult", "0.035", 20_000, Kind::Record),
    load(
        "70 % GetActionResult, 15 % FindMissingBlobs of 1,000, 10 % BatchReadBlobs of 10, 5 % write of 1 MiB",
        "0.09",
        4_000,
        Kind::Mix,
    ),
];

/// Stores what the requests are about.
pub(crate) async fn prepare(calls: &Calls) {
    for from in (0..STORED).step_by(100) {
        calls.store((from..from + 100).map(small)).await;
    }
    let (_, tree) = tree();
    for directories in tree.chunks(100) {
        calls.store(directories.iter().cloned()).await;
    }
    stream::iter(0..RESULTS)
        .map(|number| calls.record(action(number), result(number)))
        .buffer_unordered(AT_A_TIME)
        .collect::<Vec<()>>()
        .await;
}

impl Load {
    /// Makes the requests.
    pub(crate) async fn run(&self, calls: &Calls) {
        static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
        // What takes the load time beside the requests is made before them, where it is not too large.
        let digests: Vec<Digest> = (0..ASKED).map(|number| digest(&[small(number)])).collect();
        let actions: Vec<Digest> = (0..RESULTS).map(action).collect();
        let results: Vec<ActionResult> = (0..RESULTS).map(result).collect();
        let (root, _) = tree();
        let request = |turn: u32| {
            let (digests, actions, results, root) = (&digests, &actions, &results, &root);
            let one = turn as usize % actions.len();
            async move {
                match self.kind {
                    Kind::Tree => assert_eq!(calls.tree(root.clone()).await, DIRECTORIES),
                    Kind::Result => calls.result(actions[one].clone()).await,
                    Kind::Record => calls.record(actions[one].clone(), results[one].clone()).await,
                    Kind::Mix => match turn % 20 {
                        0 => calls.write(noise(NUMBER.fetch_add(1, Ordering::Relaxed), LARGE)).await,
                        1 | 2 => calls.read_batch(digests[..10].to_vec()).await,
                        3..6 => calls.find_missing(digests.clone(), MISSING).await,
                        _ => calls.result(actions[one].clone()).await,
                    },
                }
            }
        };
        stream::iter(0..self.requests).map(request).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
    }
}

fn small(number: u64) -> Bytes {
    noise(number, SMALL)
}

fn action(number: u64) -> Digest {
    digest(&[Bytes::from(format!("action {number}"))])
}

/// A result whose output is there.
fn result(number: u64) -> ActionResult {
    let file = OutputFile {
        path: "out/library.o".to_owned(),
        digest: Some(digest(&[small(number % STORED)])),
        ..OutputFile::default()
    };
    ActionResult { output_files: vec![file], ..ActionResult::default() }
}

/// A tree of 9 times 10 times 10 directories and those above them; the digest of its root, and all as they are stored.
fn tree() -> (Digest, Vec<Bytes>) {
    let mut all = Vec::with_capacity(DIRECTORIES);
    let mut level: Vec<Directory> = (0..900).map(leaf).collect();
    for width in [10, 10, 9] {
        let above = level.chunks(width).map(|children| {
            let nodes = children.iter().enumerate().map(|(n, child)| {
                let content = Bytes::from(child.encode_to_vec());
                let node = DirectoryNode {
                    name: format!("{n}"),
                    digest: Some(digest(std::slice::from_ref(&content))),
                };
                all.push(content);
                node
            });
            Directory { directories: nodes.collect(), ..Directory::default() }
        });
        level = above.collect();
    }
    let root = Bytes::from(level[0].encode_to_vec());
    all.push(root.clone());
    (digest(&[root]), all)
}

/// A directory with a few files; each number gives another.
fn leaf(number: u64) -> Directory {
    let file = |n: u64| FileNode {
        name: format!("source-{number}-{n}.cc"),
        digest: Some(digest(&[small(n)])),
        ..FileNode::default()
    };
    Directory { files: (0..5).map(file).collect(), ..Directory::default() }
}
