//! Directories of any bytes, walked by `GetTree`: refused, or each given once and never more than the limit.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use grid_cas::SharedStore;
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::observer::unobserved;
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorage as _;
use grid_proto::reapi::{Directory, GetTreeRequest};
use grid_rpc::Instances;
use grid_rpc::cas::tree::TreeLimits;
use grid_rpc::cas::{CasInstance, CasService};
use grid_rpc::digests::{all_functions, to_wire};
use prost::Message as _;

/// The most directories that a tree may have here.
const DIRECTORIES: usize = 50;

pub(crate) fn run(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let blobs = blobs(data);
    let Some(root) = blobs.last().map(|blob| digest(blob)) else { return };
    crate::block_on(walk(blobs, root, i32::from(size.cast_signed())));
}

fn digest(blob: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, blob)
}

/// The input's blobs, each after its length. No input guesses a hash: where a blob is a directory, what it links to is
/// told by its digests' sizes, as places among the blobs before it.
fn blobs(mut data: &[u8]) -> Vec<Bytes> {
    let mut blobs: Vec<Bytes> = Vec::new();
    while let Some((&length, rest)) = data.split_first() {
        let (blob, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        let linked = Directory::decode(blob).map(|mut directory| {
            for link in directory.directories.iter_mut().filter_map(|node| node.digest.as_mut()) {
                let place = usize::try_from(link.size_bytes).ok();
                if let Some(target) = place.and_then(|place| blobs.get(place)) {
                    *link = to_wire(&digest(target));
                }
            }
            directory.encode_to_vec()
        });
        blobs.push(linked.map_or_else(|_| Bytes::copy_from_slice(blob), Bytes::from));
    }
    blobs
}

async fn walk(blobs: Vec<Bytes>, root: Digest, page_size: i32) {
    let options = LruOptions { size: 1 << 24, name: "lru".into(), observer: unobserved() };
    let store: SharedStore = Arc::new(Lru::new(options));
    let stored = store.write_batch(blobs.into_iter().map(|blob| (digest(&blob), blob)).collect()).await;
    assert!(stored.iter().all(Result::is_ok));
    let instance = CasInstance {
        store,
        read_only: false,
        functions: all_functions(),
        max_batch_bytes: 1 << 20,
        max_blob_bytes: None,
        tree: TreeLimits { max_directories: DIRECTORIES, ..TreeLimits::default() },
        chunking: None,
    };
    let name = InstanceName::new("").expect("the unnamed instance");
    let service = CasService::new(Instances::new("ContentAddressableStorage", [(name, Arc::new(instance))]));
    let request =
        GetTreeRequest { root_digest: Some(to_wire(&root)), page_size, ..GetTreeRequest::default() };
    let Ok(pages) = service.get_tree(tonic::Request::new(request)).await else { return };
    let mut pages = pages.into_inner();
    let mut given = Vec::new();
    while let Some(Ok(page)) = pages.next().await {
        given.extend(page.directories.iter().map(|directory| digest(directory)));
    }
    assert!(given.len() <= DIRECTORIES, "{} directories", given.len());
}
