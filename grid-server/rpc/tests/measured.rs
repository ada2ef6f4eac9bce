//! What calls tell of themselves to whoever measures them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt as _;
use grid_cache::ActionCache as _;
use grid_cache::backends::lru::Lru as LruCache;
use grid_cas::SharedStore;
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::observer::unobserved;
use grid_core::{
    CallEvent, CallInstance, CallObserver, Digest, DigestFunction, InstanceName, ServedCall, Step,
};
use grid_proto::reapi::action_cache_server::ActionCache as _;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorage as _;
use grid_proto::reapi::{
    ActionResult, Directory, ExecutedActionMetadata, GetActionResultRequest, GetTreeRequest,
    SpliceBlobRequest, SplitBlobRequest,
};
use grid_rpc::Instances;
use grid_rpc::action_cache::{ActionCacheInstance, ActionCacheService};
use grid_rpc::auth::AuthLayer;
use grid_rpc::auth::layer::AuthOptions;
use grid_rpc::cas::tree::TreeLimits;
use grid_rpc::cas::{CasInstance, CasService, Chunking, ChunkingOptions};
use grid_rpc::digests::{all_functions, to_wire};
use grid_rpc::steps::count_received;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use prost::Message as _;
use tonic::Request;
use tonic::body::Body;
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<CallEvent>>);

impl CallObserver for Notes {
    fn event(&self, event: CallEvent) {
        self.0.lock().push(event);
    }
}

impl Notes {
    /// The steps that ended, and whether they ended well.
    fn steps(&self) -> Vec<(Step, bool)> {
        let step = |event: &CallEvent| match event {
            CallEvent::Step { step, error, .. } => Some((*step, error.is_none())),
            _ => None,
        };
        self.0.lock().drain(..).filter_map(|event| step(&event)).collect()
    }
}

fn measured() -> (ServedCall, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let observer = notes.clone();
    (
        ServedCall { service: "a.Service", method: "Method", instance: CallInstance::default(), observer },
        notes,
    )
}

/// Does some work as a part of a call.
async fn within<T>(call: &ServedCall, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| call.enter(|| work.as_mut().poll(context))).await
}

async fn store(blobs: &[Bytes]) -> SharedStore {
    let options = LruOptions { size: 1 << 24, name: "lru".into(), observer: unobserved() };
    let store: SharedStore = Arc::new(Lru::new(options));
    let named = |blob: &Bytes| (Digest::of(DigestFunction::Sha256, blob), blob.clone());
    store.write_batch(blobs.iter().map(named).collect()).await;
    store
}

fn digest(blob: &[u8]) -> grid_proto::reapi::Digest {
    to_wire(&Digest::of(DigestFunction::Sha256, blob))
}

async fn cas(blobs: &[Bytes]) -> CasService {
    let instance = CasInstance {
        store: store(blobs).await,
        read_only: false,
        functions: all_functions(),
        max_batch_bytes: 1 << 20,
        max_blob_bytes: None,
        tree: TreeLimits::default(),
        chunking: Some(Arc::new(Chunking::new(ChunkingOptions::default()))),
    };
    let name = InstanceName::default();
    CasService::new(Instances::new("ContentAddressableStorage", [(name, Arc::new(instance))]))
}

#[tokio::test]
async fn trees_and_chunks_tell_how_long_they_took() {
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    let (tree, whole) = (Directory::default().encode_to_vec(), b"onetwo");
    let service = cas(&[one.clone(), two.clone(), tree.clone().into()]).await;
    let (call, notes) = measured();

    let request = GetTreeRequest { root_digest: Some(digest(&tree)), ..GetTreeRequest::default() };
    let mut pages = within(&call, service.get_tree(Request::new(request))).await.unwrap().into_inner();
    while pages.next().await.is_some() {}
    assert_eq!(notes.steps(), [], "it goes on until the stream is dropped");
    drop(pages);
    assert_eq!(notes.steps(), [(Step::GetTree, true)]);
    let request = GetTreeRequest { root_digest: Some(digest(b"gone")), ..GetTreeRequest::default() };
    assert!(within(&call, service.get_tree(Request::new(request))).await.is_err());
    assert_eq!(notes.steps(), [(Step::GetTree, false)]);

    let request = SpliceBlobRequest {
        blob_digest: Some(digest(whole)),
        chunk_digests: vec![digest(&one), digest(&two)],
        ..SpliceBlobRequest::default()
    };
    within(&call, service.splice_blob(Request::new(request))).await.unwrap();
    assert_eq!(notes.steps(), [(Step::SpliceVerify, true), (Step::Splice, true)]);

    let request = SplitBlobRequest { blob_digest: Some(digest(whole)), ..SplitBlobRequest::default() };
    within(&call, service.split_blob(Request::new(request))).await.unwrap();
    assert_eq!(notes.steps(), [(Step::Split, true)]);
}

#[tokio::test]
async fn a_cached_result_tells_its_age() {
    let cache = Arc::new(LruCache::new(10));
    let ended = SystemTime::now() - std::time::Duration::from_secs(3_600);
    let metadata =
        ExecutedActionMetadata { worker_completed_timestamp: Some(ended.into()), ..Default::default() };
    let result = ActionResult { execution_metadata: Some(metadata), ..ActionResult::default() };
    let (told, silent) = (b"told", b"silent");
    let action = |name: &[u8]| Digest::of(DigestFunction::Sha256, name);
    cache.update(&action(told), &result).await.unwrap();
    cache.update(&action(silent), &ActionResult::default()).await.unwrap();
    let instance = ActionCacheInstance { cache, store: None, functions: all_functions() };
    let instances = Instances::new("ActionCache", [(InstanceName::default(), Arc::new(instance))]);
    let service = ActionCacheService::new(instances);
    let (call, notes) = measured();
    for name in [&told[..], silent] {
        let request =
            GetActionResultRequest { action_digest: Some(digest(name)), ..GetActionResultRequest::default() };
        within(&call, service.get_action_result(Request::new(request))).await.unwrap();
    }
    let heard = notes.0.lock().clone();
    let ages: Vec<_> = heard.iter().filter(|event| matches!(event, CallEvent::ResultAge(_))).collect();
    let [CallEvent::ResultAge(age)] = &ages[..] else { panic!("{heard:?}") };
    assert!(age.as_secs() >= 3_600);
}

#[tokio::test]
async fn authorization_and_the_bytes_of_requests_are_told() {
    let (call, notes) = measured();
    let read = service_fn(|request: http::Request<Body>| async {
        let body = count_received(request).into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "request");
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    let service = AuthLayer::new(AuthOptions::default()).layer(read);
    let mut request =
        http::Request::new(Body::new(http_body_util::Full::new(Bytes::from_static(b"request"))));
    *request.uri_mut() = "/a.Service/Method".parse().unwrap();
    request.extensions_mut().insert(call.clone());
    within(&call, service.oneshot(request)).await.unwrap();
    let heard = notes.0.lock().clone();
    let [CallEvent::Authorized(_), CallEvent::Received(7)] = heard[..] else { panic!("{heard:?}") };
}
