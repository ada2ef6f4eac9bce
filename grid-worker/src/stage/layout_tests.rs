//! Trees made of others are the same as trees made from nothing, whatever a command did meanwhile.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use grid_core::{DigestFunction, InstanceName};
use grid_proto::reapi;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::Message;
use rustix::fs::open;

use super::*;
use crate::cache::{FileKey, Placement};
use crate::cas::Cas;
use crate::retry::Retry;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const CONTENTS: [&str; 3] = ["", "one", "two"];

/// A node of a tree as tests make them.
#[derive(Clone, Debug)]
enum Node {
    File(usize, bool),
    Link(usize),
    Directory(BTreeMap<usize, Node>, Option<u16>),
}

/// What a command does to a directory of its inputs, or to an entry of it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Remove(usize),
    Write(usize),
    MakeDirectory(usize),
    Link(usize),
    Swap(usize, usize),
    Touch,
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (0..CONTENTS.len(), any::<bool>()).prop_map(|(content, executable)| Node::File(content, executable)),
        (0..CONTENTS.len()).prop_map(Node::Link),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        (prop::collection::btree_map(0..NAMES.len(), inner, 0..4), prop::option::of(any::<u16>()))
            .prop_map(|(entries, mtime)| Node::Directory(entries, mtime))
    })
}

fn root() -> impl Strategy<Value = Node> {
    (prop::collection::btree_map(0..NAMES.len(), node(), 0..4))
        .prop_map(|entries| Node::Directory(entries, None))
}

fn deed() -> impl Strategy<Value = Deed> {
    let name = 0..NAMES.len();
    prop_oneof![
        name.clone().prop_map(Deed::Remove),
        name.clone().prop_map(Deed::Write),
        name.clone().prop_map(Deed::MakeDirectory),
        name.clone().prop_map(Deed::Link),
        (name.clone(), name).prop_map(|(one, other)| Deed::Swap(one, other)),
        Just(Deed::Touch),
    ]
}

fn key(content: usize, executable: bool) -> FileKey {
    FileKey {
        digest: Digest::of(DigestFunction::Sha256, CONTENTS[content].as_bytes()),
        executable,
        mtime: None,
    }
}

/// A cache that holds every file that a tree can have.
fn cache(directory: &Path) -> FileCache {
    let cas = Cas::new(
        Vec::new(),
        InstanceName::new("").unwrap(),
        Retry { budget: std::time::Duration::ZERO },
        false,
    );
    drop(FileCache::open(directory, 1 << 20, Placement::Link, cas.clone()).unwrap());
    for (content, text) in CONTENTS.iter().enumerate().skip(1) {
        for executable in [false, true] {
            let key = key(content, executable);
            let path = directory.join(format!("files/{:02x}", key.shard())).join(key.file_name());
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(key.mode())).unwrap();
        }
    }
    FileCache::open(directory, 1 << 20, Placement::Link, cas).unwrap()
}

fn tree(root: &Node) -> Arc<InputTree> {
    let mut directories = HashMap::new();
    let root = add(root, &mut directories);
    Arc::new(InputTree { root, directories, entries: 0 })
}

fn add(node: &Node, directories: &mut HashMap<Digest, Arc<Listing>>) -> Digest {
    let Node::Directory(entries, mtime) = node else { unreachable!("only directories are added") };
    let mut message = reapi::Directory::default();
    for (name, node) in entries {
        let name = NAMES[*name].to_owned();
        match node {
            Node::File(content, is_executable) => message.files.push(reapi::FileNode {
                name,
                digest: Some(crate::cas::client::to_wire(&key(*content, false).digest)),
                is_executable: *is_executable,
                ..Default::default()
            }),
            Node::Link(target) => message.symlinks.push(reapi::SymlinkNode {
                name,
                target: format!("to{target}"),
                ..Default::default()
            }),
            Node::Directory(..) => {
                let digest = Some(crate::cas::client::to_wire(&add(node, directories)));
                message.directories.push(reapi::DirectoryNode { name, digest });
            }
        }
    }
    message.node_properties = mtime.map(|seconds| reapi::NodeProperties {
        mtime: Some(prost_types::Timestamp { seconds: seconds.into(), nanos: 0 }),
        ..Default::default()
    });
    let digest = Digest::of(DigestFunction::Sha256, &message.encode_to_vec());
    directories.insert(digest, Arc::new(Listing::new(&digest, message).unwrap()));
    digest
}

/// Does what can be done at this place; what can't be is left out, as a command would find out.
fn commit(path: &Path, deed: Deed) {
    let at = |name: usize| path.join(NAMES[name]);
    let _ = match deed {
        Deed::Remove(name) if at(name).is_dir() && !at(name).is_symlink() => {
            std::fs::remove_dir_all(at(name))
        }
        Deed::Remove(name) => std::fs::remove_file(at(name)),
        // Its own file, never the cached one: that is another user's.
        Deed::Write(name) => std::fs::remove_file(at(name)).and_then(|()| std::fs::write(at(name), "two")),
        Deed::MakeDirectory(name) => std::fs::create_dir_all(at(name).join("own")),
        Deed::Link(name) => symlink("to1", at(name)),
        Deed::Swap(one, other) => std::fs::rename(at(one), path.join("between"))
            .and_then(|()| std::fs::rename(at(other), at(one)))
            .and_then(|()| std::fs::rename(path.join("between"), at(other))),
        Deed::Touch => std::fs::File::open(path).and_then(|f| f.set_modified(std::time::SystemTime::now())),
    };
}

/// All that an action can tell of a tree, but for the times of directories that ask for none.
fn describe(root: &Path, tree: &InputTree) -> BTreeMap<String, String> {
    let mut described = BTreeMap::new();
    let mut open = vec![(root.to_owned(), tree.root)];
    while let Some((path, digest)) = open.pop() {
        let listing = tree.directories.get(&digest);
        let time = listing.and_then(|l| l.mtime).map(|_| path.metadata().unwrap().mtime());
        described.insert(path.strip_prefix(root).unwrap().display().to_string(), format!("{time:?}"));
        for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
            let (path, stat) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if stat.is_dir() {
                let child = listing.and_then(|l| {
                    l.directories.iter().find(|(n, _)| **n == *entry.file_name().to_str().unwrap())
                });
                assert_eq!(stat.mode() & 0o7777, 0o777, "{name}");
                open.push((path, child.map_or(digest, |(_, child)| *child)));
            } else if stat.is_symlink() {
                described.insert(name, format!("-> {}", std::fs::read_link(&path).unwrap().display()));
            } else {
                let content = std::fs::read_to_string(&path).unwrap();
                let inode = if content.is_empty() { 0 } else { stat.ino() };
                described.insert(name, format!("{content} {:o} {inode}", stat.mode()));
            }
        }
    }
    described
}

fn make_root(path: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

fn open_directory(path: &Path) -> OwnedFd {
    open(path, DIRECTORY, Mode::empty()).unwrap()
}

/// Trees one after the other in one place, and what a command does where to each.
type Steps = Vec<(Node, Vec<(Vec<usize>, Deed)>)>;

fn steps() -> impl Strategy<Value = Steps> {
    let place = prop::collection::vec(0..NAMES.len(), 0..3);
    let step = (root(), prop::collection::vec((place, deed()), 0..6));
    prop::collection::vec(step, 2..5)
}

fn check(steps: &Steps, directory: &Path, cache: &FileCache) -> Result<(), TestCaseError> {
    let reused = directory.join("reused");
    make_root(&reused);
    let mut before = None;
    for (number, (node, deeds)) in steps.iter().enumerate() {
        let tree = tree(node);
        before = Some(lay_out(&tree, open_directory(&reused), before.take(), cache).unwrap());
        let fresh = directory.join(number.to_string());
        make_root(&fresh);
        lay_out(&tree, open_directory(&fresh), None, cache).unwrap();
        prop_assert_eq!(describe(&reused, &tree), describe(&fresh, &tree));
        for (place, deed) in deeds {
            commit(&place.iter().fold(reused.clone(), |path, name| path.join(NAMES[*name])), *deed);
        }
    }
    Ok(())
}

#[test]
fn a_tree_made_of_another_is_the_tree() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(&directory.path().join("cache"));
    let config = ProptestConfig { cases: 80, ..ProptestConfig::with_source_file(file!()) };
    let tried = TestRunner::new(config).run(&steps(), |steps| {
        let directory = tempfile::tempdir_in(directory.path()).unwrap();
        check(&steps, directory.path(), &cache)
    });
    tried.unwrap();
}

#[test]
fn what_is_as_it_was_left_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(&directory.path().join("cache"));
    let root = directory.path().join("root");
    make_root(&root);
    let inner = Node::Directory([(0, Node::File(1, false))].into(), None);
    let tree = tree(&Node::Directory([(0, inner.clone()), (1, inner)].into(), None));
    let mut layout = lay_out(&tree, open_directory(&root), None, &cache).unwrap();
    // What was laid out at this very moment is looked at once more; after that it is known.
    let since = FileTime::now();
    while FileTime::now() <= since {
        std::hint::spin_loop();
    }
    layout = lay_out(&tree, open_directory(&root), Some(layout), &cache).unwrap();
    std::fs::remove_file(root.join("b/a")).unwrap();
    let times = |name: &str| root.join(name).metadata().map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
    let (root_time, kept) = (times(""), times("a"));
    lay_out(&tree, open_directory(&root), Some(layout), &cache).unwrap();
    assert_eq!((times(""), times("a")), (root_time, kept));
    assert_eq!(std::fs::read_to_string(root.join("b/a")).unwrap(), "one");
}
