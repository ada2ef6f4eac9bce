//! Which blobs an `ActionResult` names, directly and through its trees.

use grid_cas::content::dedup;
use grid_cas::{ByteRange, SharedStore, StoreError, content};
use grid_core::Digest;
use grid_proto::reapi::{self, ActionResult, Directory, Tree};
use prost::Message;

use crate::CacheError;

/// A tree larger than this is not looked into: results that name it are not given. In bytes.
const MAX_TREE: u64 = 256 * 1024 * 1024;
/// Directories are fetched in batches of at most this many bytes.
const BATCH: u64 = 4 * 1024 * 1024;

/// What a result names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Files, stdout and stderr, and the trees themselves.
    pub(crate) blobs: Vec<Digest>,
    /// Output directories as `Tree` messages.
    pub(crate) trees: Vec<Digest>,
    /// Output directories as `Directory` messages that are blobs each, where there is no `Tree`.
    pub(crate) roots: Vec<Digest>,
}

/// In which form a directory's content lies in the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// One `Tree` message.
    Tree,
    /// `Directory` messages that are blobs each.
    Directories,
}

/// The blobs that `result` names itself.
///
/// # Errors
/// [`CacheError::Corrupt`] for a digest that is none.
pub(crate) fn named(action: &Digest, result: &ActionResult) -> Result<Named, CacheError> {
    let parse = |digest: &reapi::Digest| parse(action, digest).ok_or(CacheError::Corrupt(*action));
    let mut named = Named::default();
    let files = result.output_files.iter().filter_map(|file| file.digest.as_ref());
    for digest in files.chain(&result.stdout_digest).chain(&result.stderr_digest) {
        named.blobs.push(parse(digest)?);
    }
    for directory in &result.output_directories {
        match (&directory.tree_digest, &directory.root_directory_digest) {
            (Some(tree), _) if !tree.hash.is_empty() => {
                let tree = parse(tree)?;
                named.blobs.push(tree);
                named.trees.push(tree);
            }
            (_, Some(root)) => named.roots.push(parse(root)?),
            _ => return Err(CacheError::Corrupt(*action)),
        }
    }
    Ok(named)
}

/// Every blob that `result` names, what its trees contain included; of trees that are absent nothing is told.
///
/// # Errors
/// [`CacheError::Corrupt`]; the storage's trouble.
pub async fn all(
    storage: &SharedStore,
    action: &Digest,
    result: &ActionResult,
) -> Result<Vec<Digest>, CacheError> {
    let Named { mut blobs, trees, roots } = named(action, result)?;
    let trees = trees.into_iter().map(|tree| (tree, Contents::Tree));
    for (tree, form) in trees.chain(roots.into_iter().map(|root| (root, Contents::Directories))) {
        blobs.extend(files(storage, &tree, form).await?.unwrap_or_default());
    }
    Ok(dedup(blobs))
}

/// A digest of the same function as `like`; `None` where it is malformed.
fn parse(like: &Digest, digest: &reapi::Digest) -> Option<Digest> {
    Digest::parse(like.function(), &digest.hash, digest.size_bytes).ok()
}

/// All files (and, for `Directories`, directories) beneath `root`; `None` where some directory is absent or malformed.
///
/// # Errors
/// The storage's trouble.
pub async fn files(
    storage: &SharedStore,
    root: &Digest,
    form: Contents,
) -> Result<Option<Vec<Digest>>, StoreError> {
    match form {
        Contents::Tree => files_of_tree(storage, root).await,
        Contents::Directories => files_of_directories(storage, root).await,
    }
}

async fn files_of_tree(storage: &SharedStore, root: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
    if root.size() > MAX_TREE {
        return Ok(None);
    }
    let read = storage.read(root, ByteRange::default()).await;
    let bytes = match read {
        Ok(stream) => content::collect(root, stream).await,
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => return Ok(None),
        bytes => bytes?,
    };
    let Ok(tree) = Tree::decode(bytes) else { return Ok(None) };
    let mut found = Vec::new();
    for directory in tree.root.iter().chain(&tree.children) {
        let Some(files) = files_in(root, directory) else { return Ok(None) };
        found.extend(files);
    }
    Ok(Some(dedup(found)))
}

/// Goes down level by level, each directory once, however often it is named.
async fn files_of_directories(
    storage: &SharedStore,
    root: &Digest,
) -> Result<Option<Vec<Digest>>, StoreError> {
    if root.size() > MAX_TREE {
        return Ok(None);
    }
    let mut seen = content::DigestSet::default();
    let mut found = vec![*root];
    let mut level = vec![*root];
    seen.insert(*root);
    while !level.is_empty() {
        let mut below = Vec::new();
        for batch in batches(&level) {
            for answer in storage.read_batch(batch).await {
                let bytes = match answer {
                    Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => return Ok(None),
                    answer => answer?,
                };
                let Ok(directory) = Directory::decode(bytes) else { return Ok(None) };
                let Some(files) = files_in(root, &directory) else { return Ok(None) };
                found.extend(files);
                for child in &directory.directories {
                    let Some(child) = child.digest.as_ref().and_then(|d| parse(root, d)) else {
                        return Ok(None);
                    };
                    if child.size() > MAX_TREE {
                        return Ok(None);
                    }
                    if seen.insert(child) {
                        found.push(child);
                        below.push(child);
                    }
                }
            }
        }
        level = below;
    }
    Ok(Some(dedup(found)))
}

fn files_in(like: &Digest, directory: &Directory) -> Option<Vec<Digest>> {
    directory.files.iter().map(|file| file.digest.as_ref().and_then(|digest| parse(like, digest))).collect()
}

/// `digests` in runs that are small enough to be read at once.
fn batches(digests: &[Digest]) -> impl Iterator<Item = &[Digest]> {
    let mut rest = digests;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut bytes = 0_u64;
        let fits = rest.iter().take_while(|digest| {
            bytes = bytes.saturating_add(digest.size());
            bytes <= BATCH
        });
        let (batch, later) = rest.split_at(fits.count().max(1));
        rest = later;
        Some(batch)
    })
}
