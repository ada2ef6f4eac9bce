//! The pages of a tree, each from another replica.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use bytes::Bytes;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    BatchUpdateBlobsRequest, Digest, Directory, DirectoryNode, FileNode, GetTreeRequest,
    batch_update_blobs_request,
};
use prost::Message as _;
use tonic::Status;
use tonic::transport::Channel;

use super::Replicas;
use crate::remote::{Remote, digest};

const DIRECTORIES: usize = 300;
const PAGE: i32 = 100;

/// Reads a tree page by page; both replicas that were there for the first page are gone for the last.
///
/// # Errors
/// Where a directory is missing or comes twice.
pub(super) fn paged(remote: &Remote, replicas: &Replicas<'_>) -> Result<()> {
    let directories: Vec<Directory> = (0..DIRECTORIES).map(leaf).collect();
    let children = directories.iter().enumerate().map(|(n, directory)| DirectoryNode {
        name: format!("{n:03}"),
        digest: Some(digest(&directory.encode_to_vec())),
    });
    let root = Directory { directories: children.collect(), ..Default::default() };
    let blobs = directories.iter().chain([&root]).map(|directory| directory.encode_to_vec().into());
    let requests: Vec<_> = blobs
        .map(|data: Bytes| batch_update_blobs_request::Request {
            digest: Some(digest(&data)),
            data,
            ..Default::default()
        })
        .collect();
    remote.retried("BatchUpdateBlobs", async || {
        let request = BatchUpdateBlobsRequest { requests: requests.clone(), ..Default::default() };
        ContentAddressableStorageClient::new(remote.channel.clone()).batch_update_blobs(request).await
    })?;
    let root = digest(&root.encode_to_vec());
    let first = replicas.names("cas")?;
    let (mut seen, mut token, mut count) = (BTreeSet::new(), String::new(), 0);
    loop {
        let (page, next) =
            remote.retried("GetTree", async || page(&remote.channel, root.clone(), &token).await)?;
        count += page.len();
        seen.extend(page.iter().map(|directory| digest(directory).hash));
        if next.is_empty() {
            break;
        }
        token = next;
        if let Some(pod) = replicas.names("cas")?.iter().find(|pod| first.contains(pod)) {
            replicas.kill(pod)?;
        }
    }
    let left = replicas.names("cas")?;
    ensure!(!left.iter().any(|pod| first.contains(pod)), "some of {first:?} are still there: {left:?}");
    ensure!(count == DIRECTORIES + 1, "{count} directories were given, of {}", DIRECTORIES + 1);
    ensure!(seen.len() == count, "{} directories were given twice", count - seen.len());
    println!("    tree: {count} directories in pages of {PAGE}, each once, over {} replicas", first.len());
    replicas.wait_for_both("cas")
}

/// The first page after a token, and the token after that.
async fn page(channel: &Channel, root: Digest, token: &str) -> Result<(Vec<Bytes>, String), Status> {
    let request = GetTreeRequest {
        root_digest: Some(root),
        page_size: PAGE,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let mut answers =
        ContentAddressableStorageClient::new(channel.clone()).get_tree(request).await?.into_inner();
    let first = answers.message().await?.unwrap_or_default();
    Ok((first.directories, first.next_page_token))
}

fn leaf(number: usize) -> Directory {
    let file = FileNode { name: format!("file-{number}"), digest: Some(digest(b"")), ..Default::default() };
    Directory { files: vec![file], ..Default::default() }
}
