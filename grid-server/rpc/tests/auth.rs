//! Authentication and authorization before real services.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::Arc;

use grid_cache::backends::lru::Lru;
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::action_cache_server::ActionCacheServer;
use grid_proto::reapi::{ActionResult, GetActionResultRequest, UpdateActionResultRequest};
use grid_rpc::Instances;
use grid_rpc::action_cache::{ActionCacheInstance, ActionCacheService};
use grid_rpc::auth::jwks::Keys;
use grid_rpc::auth::jwt::JwtAuthenticator;
use grid_rpc::auth::layer::AuthOptions;
use grid_rpc::auth::tokens::TokenFile;
use grid_rpc::auth::{AuthLayer, Policy};
use grid_rpc::digests::{all_functions, to_wire};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request};

const SECRET: &[u8] = b"a secret of the test";

struct World {
    client: ActionCacheClient<Channel>,
    _folder: tempfile::TempDir,
}

fn name(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

/// Two instances: `main`, with execution, and `open`, which anyone may use.
async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let worker = folder.path().join("worker");
    std::fs::write(&worker, "worker token\n").unwrap();
    let keys = Keys::Fixed(Arc::new(DecodingKey::from_secret(SECRET)));
    let options = AuthOptions {
        authenticators: vec![Arc::new(JwtAuthenticator::new(keys, Algorithm::HS256, &[]))],
        policy: Arc::new(Policy {
            unauthenticated_instances: ["open".into()].into(),
            execution_instances: ["main".into()].into(),
            cache_writers: ["ci".into()].into(),
            ..Policy::default()
        }),
        worker_token: Some(Arc::new(TokenFile::new(worker))),
        ..AuthOptions::default()
    };
    let cache = Arc::new(Lru::new(100));
    let instance = Arc::new(ActionCacheInstance { cache, store: None, functions: all_functions() });
    let instances =
        Instances::new("ActionCache", [(name("main"), Arc::clone(&instance)), (name("open"), instance)]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .layer(AuthLayer::new(options))
        .add_service(ActionCacheServer::new(ActionCacheService::new(instances)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    World { client: ActionCacheClient::new(channel), _folder: folder }
}

fn token(subject: &str) -> String {
    let claims = json!({"sub": subject, "exp": 4_000_000_000_u64});
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn with<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

impl World {
    async fn get(&self, instance: &str, token: Option<&str>) -> Code {
        let action_digest = Some(to_wire(&Digest::of(DigestFunction::Sha256, b"no such action")));
        let request =
            GetActionResultRequest { instance_name: instance.into(), action_digest, ..Default::default() };
        self.client.clone().get_action_result(with(request, token)).await.unwrap_err().code()
    }

    async fn update(&self, instance: &str, token: Option<&str>) -> Code {
        let request = UpdateActionResultRequest {
            instance_name: instance.into(),
            action_digest: Some(to_wire(&Digest::of(DigestFunction::Sha256, b"action"))),
            action_result: Some(ActionResult::default()),
            ..Default::default()
        };
        let answer = self.client.clone().update_action_result(with(request, token)).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }
}

#[tokio::test]
async fn strangers_are_refused_and_known_callers_are_not() {
    let world = world().await;
    assert_eq!(world.get("main", None).await, Code::Unauthenticated);
    assert_eq!(world.get("main", Some("garbage")).await, Code::Unauthenticated);
    assert_eq!(world.get("main", Some(&token("dev"))).await, Code::NotFound);
    assert_eq!(world.get("open", None).await, Code::NotFound);
    assert_eq!(world.get("nope", None).await, Code::InvalidArgument);
}

#[tokio::test]
async fn only_named_subjects_record_results_where_actions_are_executed() {
    let world = world().await;
    assert_eq!(world.update("main", Some(&token("dev"))).await, Code::PermissionDenied);
    assert_eq!(world.update("main", Some(&token("ci"))).await, Code::Ok);
    assert_eq!(world.update("main", None).await, Code::Unauthenticated);
}

#[tokio::test]
async fn the_worker_token_reads_and_does_not_record_results() {
    let world = world().await;
    assert_eq!(world.get("main", Some("worker token")).await, Code::NotFound);
    assert_eq!(world.update("main", Some("worker token")).await, Code::Unauthenticated);
}
