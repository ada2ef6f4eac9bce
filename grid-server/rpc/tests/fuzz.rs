//! Parsers of bytes from outside, fed with rubbish that looks like the real thing: nothing panics, and what is read is what was
//! written. `PROPTEST_CASES` says how many inputs each gets; what once failed is kept beside this file and tried first.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use futures::StreamExt as _;
use grid_cas::SharedStore;
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::observer::unobserved;
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorage as _;
use grid_proto::reapi::{Directory, DirectoryNode, GetTreeRequest};
use grid_rpc::Instances;
use grid_rpc::auth::jwks::Keys;
use grid_rpc::auth::jwt::JwtAuthenticator;
use grid_rpc::auth::{Acl, Authenticator as _, Identity};
use grid_rpc::bytestream::name::Resource;
use grid_rpc::cas::tree::TreeLimits;
use grid_rpc::cas::{CasInstance, CasService};
use grid_rpc::digests::{all_functions, to_wire};
use jsonwebtoken::{Algorithm, DecodingKey};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use tonic::Request;

/// The most directories that a tree may have here.
const DIRECTORIES: usize = 50;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A service over a store with `blobs`.
async fn cas(blobs: &[Vec<u8>]) -> CasService {
    let options = LruOptions { size: 1 << 24, name: "lru".into(), observer: unobserved() };
    let store: SharedStore = Arc::new(Lru::new(options));
    let digest = |blob: &Vec<u8>| Digest::of(DigestFunction::Sha256, blob);
    let blobs = blobs.iter().map(|blob| (digest(blob), blob.clone().into())).collect();
    store.write_batch(blobs).await;
    let instance = CasInstance {
        store,
        read_only: false,
        functions: all_functions(),
        max_batch_bytes: 1 << 20,
        max_blob_bytes: None,
        tree: TreeLimits { max_directories: DIRECTORIES, ..TreeLimits::default() },
        chunking: None,
    };
    let name = InstanceName::new("").unwrap();
    CasService::new(Instances::new("ContentAddressableStorage", [(name, Arc::new(instance))]))
}

/// How many directories a tree has, or nothing where it is refused.
async fn tree(blobs: &[Vec<u8>], page_token: String, page_size: i32) -> Option<usize> {
    let service = cas(blobs).await;
    let root_digest = Some(to_wire(&Digest::of(DigestFunction::Sha256, blobs.last().unwrap())));
    let request = GetTreeRequest { root_digest, page_token, page_size, ..GetTreeRequest::default() };
    let mut pages = service.get_tree(Request::new(request)).await.ok()?.into_inner();
    let mut found = 0;
    while let Some(page) = pages.next().await {
        found += page.ok()?.directories.len();
    }
    Some(found)
}

proptest! {
    #[test]
    fn directories_of_any_bytes_are_walked_or_refused(
        blobs in vec(vec(any::<u8>(), 0..200), 1..4),
        token in "[0-9a-zA-Z/+=_-]{0,60}",
        size in any::<i32>(),
    ) {
        block_on(tree(&blobs, token, size));
    }

    #[test]
    fn trees_of_any_shape_are_given_once_and_bounded(links in vec(vec(any::<prop::sample::Index>(), 0..4), 1..80)) {
        // Each directory links to earlier ones, and to some that are not there; the last is the root.
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        for (number, links) in links.iter().enumerate() {
            let node = |(at, link): (usize, &prop::sample::Index)| {
                let target = link.index(number + 1);
                let hash = blobs.get(target).map_or_else(
                    || to_wire(&Digest::of(DigestFunction::Sha256, format!("absent {at}").as_bytes())),
                    |blob| to_wire(&Digest::of(DigestFunction::Sha256, blob)),
                );
                DirectoryNode { name: format!("{number}-{at}"), digest: Some(hash) }
            };
            let directories = links.iter().enumerate().map(node).collect();
            blobs.push(Directory { directories, ..Directory::default() }.encode_to_vec());
        }
        if let Some(found) = block_on(tree(&blobs, String::new(), 7)) {
            prop_assert!((1..=DIRECTORIES).contains(&found), "{found}");
        }
    }

    #[test]
    fn resource_names_of_any_text_are_read_or_refused(
        name in "(uploads|blobs|compressed-blobs|zstd|blake3|sha256|logstreams|[a-f0-9]{64}|[-0-9]{0,20}|\\PC{0,4}|/){0,14}"
    ) {
        if let Ok(Resource::Blob(blob) | Resource::Upload { blob, .. }) = Resource::parse(&name) {
            prop_assert!(name.contains(&blob.digest.size().to_string()) && name.starts_with(blob.instance));
        }
    }

    #[test]
    fn tokens_of_any_text_let_nobody_in(
        header in "[A-Za-z0-9_-]{0,40}",
        claims in "[A-Za-z0-9_-]{0,80}",
        signature in "[A-Za-z0-9_-]{0,60}",
        joined in "[.]{0,3}",
        algorithm in "(none|HS256|RS256|hs256|EdDSA)",
    ) {
        let jwt = JwtAuthenticator::new(
            Keys::Fixed(Arc::new(DecodingKey::from_secret(b"a secret"))), Algorithm::HS256, &[],
        );
        use base64::Engine as _;
        let alg = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{algorithm}\"}}"));
        for token in [format!("{header}{joined}{claims}{joined}{signature}"), format!("{alg}.{claims}.{signature}")] {
            let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            prop_assert!(block_on(jwt.authenticate(&parts)).is_err(), "{}", token);
        }
    }

    #[test]
    fn acls_of_any_text_are_read_or_refused_and_close_what_they_do_not_name(
        text in "(main|other|: |\\{|\\}|\\[|\\]|allow|all|actor|subject|requests|[.*+?()]|, |\n|  |\\PC){0,30}"
    ) {
        if let Ok(acl) = Acl::parse(&text) {
            let anybody = Identity { subject: "s".into(), actor: "a".into(), workflow: "w".into() };
            prop_assert!(!acl.permits("not named", "Execute", &anybody));
        }
    }
}
