//! `GetTree`: the directories beneath a root, each once, however often it is linked.
//!
//! The walk is breadth first and depends on the tree alone, so that a page token is just how far a walk had come,
//! and any replica can go on from it. The state of a walk is the digests that it has seen; their number is bounded,
//! and so is what is read at once. Directories that are missing are left out (REAPI, `GetTree`). They are given as they are
//! stored; of a directory only its links are read.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use grid_cas::{SharedStore, StoreError};
use grid_core::Digest;
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi::{DirectoryNode, GetTreeRequest};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, check_wire_type, decode_key, message, skip_field};
use tonic::Status;

use super::CasInstance;
use crate::RpcError;
use crate::digests::{Functions, Reader};
use crate::error::status;

/// How far one call may go.
#[derive(Clone, Copy, Debug)]
pub struct TreeLimits {
    /// Directories in one tree, each counted once.
    pub max_directories: usize,
    /// The size of one directory's message, in bytes.
    pub max_directory_bytes: u64,
    /// Directories in one page, where the client asks for no fewer.
    pub page_size: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { max_directories: 1_000_000, max_directory_bytes: 64 << 20, page_size: 1_000 }
    }
}

/// The bytes of directories that one message holds, and that are read at once; one that is larger goes alone.
const PAGE_BYTES: u64 = 2 << 20;

/// The pages of a tree, from the one that the request's token names.
pub(super) async fn get(
    instance: &CasInstance,
    request: &GetTreeRequest,
) -> Result<impl Stream<Item = Result<GetTreeResponse, Status>> + Send + use<>, Status> {
    let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
    let root = reader.required("root_digest", request.root_digest.as_ref()).map_err(status)?;
    let page_size = page_size(request.page_size, &instance.tree).map_err(status)?;
    let skip = read_token(&root, &request.page_token).map_err(status)?;
    let mut walk = Walk {
        store: Arc::clone(&instance.store),
        functions: Arc::clone(&instance.functions),
        named: request.digest_function,
        limits: instance.tree,
        root,
        page_size,
        skip,
        visited: 0,
        queue: VecDeque::from([root]),
        seen: HashSet::from([root]),
    };
    // The first page is made before the answer starts, so that a missing root is the call's own error.
    let first = walk.page().await?;
    Ok(stream::try_unfold((Some(walk), first), |(walk, page)| async move {
        let Some(page) = page else { return Ok(None) };
        let Some(mut walk) = walk else { return Ok(None) };
        if page.next_page_token.is_empty() {
            return Ok(Some((page, (None, None))));
        }
        let next = walk.page().await?;
        Ok(Some((page, (Some(walk), next))))
    }))
}

fn page_size(asked: i32, limits: &TreeLimits) -> Result<usize, RpcError> {
    match usize::try_from(asked) {
        Ok(0) => Ok(limits.page_size),
        Ok(size) => Ok(size.min(limits.page_size)),
        Err(_) => Err(RpcError::field("page_size", format!("{asked} is negative"))),
    }
}

/// A token says how many directories of which tree have been visited.
fn write_token(root: &Digest, visited: usize) -> String {
    format!("{}-{visited}", hex_prefix(root))
}

fn hex_prefix(root: &Digest) -> String {
    root.hash_hex().chars().take(16).collect()
}

fn read_token(root: &Digest, token: &str) -> Result<usize, RpcError> {
    if token.is_empty() {
        return Ok(0);
    }
    let bad = || RpcError::field("page_token", "is not a token of this tree; pass one from its own pages");
    let (tree, visited) = token.split_once('-').ok_or_else(bad)?;
    if tree != hex_prefix(root) || !visited.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    visited.parse().map_err(|_| bad())
}

struct Walk {
    store: SharedStore,
    functions: Functions,
    named: i32,
    limits: TreeLimits,
    root: Digest,
    page_size: usize,
    /// Directories that earlier pages held; they are walked again, for their children.
    skip: usize,
    visited: usize,
    queue: VecDeque<Digest>,
    seen: HashSet<Digest>,
}

impl Walk {
    /// The next page; `None` past the last.
    async fn page(&mut self) -> Result<Option<GetTreeResponse>, Status> {
        if self.queue.is_empty() && self.visited > 0 {
            return Ok(None);
        }
        let mut page = GetTreeResponse::default();
        let mut bytes = 0;
        while !self.queue.is_empty() && page.directories.len() < self.page_size && bytes < PAGE_BYTES {
            let want = self.page_size - page.directories.len();
            let batch = self.take(want, PAGE_BYTES - bytes).map_err(status)?;
            let contents = self.store.read_batch(&batch).await;
            for (digest, content) in batch.iter().zip(contents) {
                let directory = self.visit(digest, content)?;
                if let Some(directory) = directory.filter(|_| self.visited > self.skip) {
                    bytes += digest.size();
                    page.directories.push(directory);
                }
            }
        }
        if !self.queue.is_empty() {
            page.next_page_token = write_token(&self.root, self.visited);
        }
        Ok(Some(page))
    }

    /// The next directories to read: at most `count`, and `bytes` together unless the first alone is larger.
    fn take(&mut self, count: usize, bytes: u64) -> Result<Vec<Digest>, RpcError> {
        let mut batch = Vec::new();
        let mut total = 0_u64;
        while let Some(next) = self.queue.front() {
            if next.size() > self.limits.max_directory_bytes {
                let limit = self.limits.max_directory_bytes;
                return Err(RpcError::field(
                    "root_digest",
                    format!("directory {next} is larger than the limit of {limit} bytes"),
                ));
            }
            total += next.size();
            if batch.len() == count || (total > bytes && !batch.is_empty()) {
                break;
            }
            batch.extend(self.queue.pop_front());
        }
        Ok(batch)
    }

    /// Notes a directory's children; gives the directory unless it is missing.
    fn visit(
        &mut self,
        digest: &Digest,
        content: Result<Bytes, StoreError>,
    ) -> Result<Option<Bytes>, Status> {
        self.visited += 1;
        let content = match content {
            Ok(content) => content,
            Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) if *digest != self.root => {
                return Ok(None);
            }
            Err(error) => return Err(status(error)),
        };
        let links = links(&content).map_err(|error| {
            status(RpcError::field("root_digest", format!("blob {digest} is not a Directory: {error}")))
        })?;
        let reader = Reader::new(self.named, &self.functions).map_err(status)?;
        for child in &links {
            let child = reader.required("directories.digest", child.digest.as_ref()).map_err(status)?;
            if self.seen.insert(child) {
                self.queue.push_back(child);
            }
        }
        if self.seen.len() > self.limits.max_directories {
            return Err(status(RpcError::Limit {
                message: format!("the tree has more than {} directories", self.limits.max_directories),
                subject: format!("tree:{}", self.root),
                retry_after: None,
            }));
        }
        Ok(Some(content))
    }
}

/// `Directory.directories` of an encoded directory. Its other fields have to have their wire type and are skipped.
fn links(mut directory: &[u8]) -> Result<Vec<DirectoryNode>, DecodeError> {
    let mut links = Vec::new();
    while !directory.is_empty() {
        let (field, wire_type) = decode_key(&mut directory)?;
        match field {
            2 => {
                message::merge_repeated(wire_type, &mut links, &mut directory, DecodeContext::default())?;
                continue;
            }
            // Files, symbolic links, properties of the node.
            1 | 3 | 5 => check_wire_type(WireType::LengthDelimited, wire_type)?,
            _ => {}
        }
        skip_field(wire_type, field, &mut directory, DecodeContext::default())?;
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;

    use super::*;

    #[test]
    fn tokens_are_bound_to_their_tree() {
        let root = Digest::of(DigestFunction::Sha256, b"root");
        let other = Digest::of(DigestFunction::Sha256, b"other");
        let token = write_token(&root, 12);
        assert_eq!(read_token(&root, &token).unwrap(), 12);
        assert_eq!(read_token(&root, "").unwrap(), 0);
        for bad in [
            "x",
            "12",
            "-",
            "é-1",
            &format!("{}-+1", hex_prefix(&root)),
            &format!("{token}9999999999999999999999"),
        ] {
            assert!(read_token(&root, bad).is_err(), "{bad:?}");
        }
        assert!(read_token(&other, &token).is_err());
    }
}
