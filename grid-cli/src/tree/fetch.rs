//! Fetches the `Directory` messages of a tree, by digest of its root or of a `Tree`.

use std::collections::HashMap;

use grid_core::{Digest, DigestFunction};
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi;
use prost::Message as _;
use tonic::Status;

use crate::digests;
use crate::exit::Failure;
use crate::remote::Remote;
use crate::remote::retry::Tries;
use crate::transfer::Cas;

/// The directories of one tree.
#[derive(Debug)]
pub(crate) struct Directories {
    /// Digest of the root.
    pub(crate) root: Digest,
    /// All of them; shared ones once.
    pub(crate) by_digest: HashMap<Digest, reapi::Directory>,
}

/// The tree that is one directory without entries, which no server needs to hold.
pub(crate) fn empty(root: Digest) -> Directories {
    Directories { root, by_digest: HashMap::new() }
}

/// The tree below the `Directory` with digest `root`, from GetTree.
pub(crate) async fn by_root(remote: &Remote, root: Digest) -> Result<Directories, Failure> {
    let mut by_digest = HashMap::new();
    let mut page_token = String::new();
    loop {
        let pages = tree_pages(remote, &root, page_token).await?;
        page_token = String::new();
        for page in pages {
            page_token = page.next_page_token;
            for content in page.directories {
                // The digest is computed and not believed: a directory that was changed on its way is then not found.
                let digest = Digest::of(root.function(), &content);
                let directory = reapi::Directory::decode(content).map_err(|error| {
                    let message = format!("directory {digest} can't be decoded: {error}");
                    Failure::rpc(format!("get the tree of {root}"), Status::data_loss(message))
                })?;
                by_digest.insert(digest, directory);
            }
        }
        if page_token.is_empty() {
            return Ok(Directories { root, by_digest });
        }
    }
}

async fn tree_pages(
    remote: &Remote,
    root: &Digest,
    page_token: String,
) -> Result<Vec<GetTreeResponse>, Failure> {
    let request = reapi::GetTreeRequest {
        instance_name: remote.instance().to_owned(),
        root_digest: Some(digests::to_wire(root)),
        page_size: 0,
        page_token,
        digest_function: root.function().to_wire(),
    };
    let mut tries = Tries::new(remote.retry());
    loop {
        match collect(remote, request.clone()).await {
            Ok(pages) => return Ok(pages),
            Err(status) => {
                let told = tries.again(status).await;
                told.map_err(|status| Failure::rpc(format!("get the tree of {root}"), status))?;
            }
        }
    }
}

async fn collect(remote: &Remote, request: reapi::GetTreeRequest) -> Result<Vec<GetTreeResponse>, Status> {
    let mut answer = remote.cas().get_tree(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = answer.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

/// The tree in the `Tree` message with digest `tree`.
pub(crate) async fn by_tree(cas: &Cas, tree: &Digest) -> Result<Directories, Failure> {
    let message: reapi::Tree = cas.read_message(tree).await?;
    let function = tree.function();
    let mut by_digest = HashMap::new();
    for child in message.children {
        insert(&mut by_digest, child, function);
    }
    let root = insert(&mut by_digest, message.root.unwrap_or_default(), function);
    Ok(Directories { root, by_digest })
}

/// Under the digest that it has when it is encoded, for a `Tree` names none.
fn insert(
    into: &mut HashMap<Digest, reapi::Directory>,
    directory: reapi::Directory,
    function: DigestFunction,
) -> Digest {
    let digest = Digest::of(function, &directory.encode_to_vec());
    into.insert(digest, directory);
    digest
}
