//! Authentication and authorization before real services.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grid_cache::backends::lru::Lru;
use grid_cas::client::{Connection, ConnectionOptions};
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::buildgrid::auth_server::{Auth, AuthServer};
use grid_proto::buildgrid::{AuthorizeRequest, ClientIdentity};
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::action_cache_server::ActionCacheServer;
use grid_proto::reapi::{ActionResult, GetActionResultRequest, UpdateActionResultRequest};
use grid_rpc::Instances;
use grid_rpc::action_cache::{ActionCacheInstance, ActionCacheService};
use grid_rpc::auth::jwks::Keys;
use grid_rpc::auth::jwt::JwtAuthenticator;
use grid_rpc::auth::layer::AuthOptions;
use grid_rpc::auth::tokens::TokenFile;
use grid_rpc::auth::{Acl, AuthLayer, Policy};
use grid_rpc::digests::{all_functions, to_wire};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};

const SECRET: &[u8] = b"a secret of the test";

struct World {
    client: ActionCacheClient<Channel>,
}

fn name(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

/// Two instances: `main`, with execution, and `open`, which anyone may use.
async fn world() -> (World, tempfile::TempDir) {
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
    (serve(options).await, folder)
}

/// An action cache behind the layer.
async fn serve(options: AuthOptions) -> World {
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
    World { client: ActionCacheClient::new(channel) }
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
async fn services_of_administrators_are_closed_to_strangers_whatever_instance_is_open() {
    const SERVICES: &[&str] = &["build.bazel.remote.execution.v2.ActionCache"];
    let keys = || Keys::Fixed(Arc::new(DecodingKey::from_secret(SECRET)));
    let options = |acl: Option<&str>| AuthOptions {
        authenticators: vec![Arc::new(JwtAuthenticator::new(keys(), Algorithm::HS256, &[]))],
        policy: Arc::new(Policy {
            acl: acl.map(|text| Acl::parse(text).unwrap().into()),
            unauthenticated_instances: ["open".into(), String::new()].into(),
            ..Policy::default()
        }),
        admin_services: SERVICES,
        ..AuthOptions::default()
    };
    let world = serve(options(None)).await;
    assert_eq!(world.get("open", None).await, Code::Unauthenticated);
    assert_eq!(world.get("open", Some(&token("dev"))).await, Code::NotFound);
    let acl = "{open: {allow: all}, '': {allow: [{subject: admin, requests: [GetActionResult]}]}}";
    let world = serve(options(Some(acl))).await;
    assert_eq!(world.get("open", Some(&token("dev"))).await, Code::PermissionDenied);
    assert_eq!(world.get("open", Some(&token("admin"))).await, Code::NotFound);
}

#[tokio::test]
async fn strangers_are_refused_and_known_callers_are_not() {
    let (world, _folder) = world().await;
    assert_eq!(world.get("main", None).await, Code::Unauthenticated);
    assert_eq!(world.get("main", Some("garbage")).await, Code::Unauthenticated);
    assert_eq!(world.get("main", Some(&token("dev"))).await, Code::NotFound);
    assert_eq!(world.get("open", None).await, Code::NotFound);
    assert_eq!(world.get("nope", None).await, Code::InvalidArgument);
}

#[tokio::test]
async fn only_named_subjects_record_results_where_actions_are_executed() {
    let (world, _folder) = world().await;
    assert_eq!(world.update("main", Some(&token("dev"))).await, Code::PermissionDenied);
    assert_eq!(world.update("main", Some(&token("ci"))).await, Code::Ok);
    assert_eq!(world.update("main", None).await, Code::Unauthenticated);
}

#[tokio::test]
async fn the_worker_token_reads_and_does_not_record_results() {
    let (world, _folder) = world().await;
    assert_eq!(world.get("main", Some("worker token")).await, Code::NotFound);
    assert_eq!(world.update("main", Some("worker token")).await, Code::Unauthenticated);
}

/// A server that lets the token `good` into `main` alone, and counts the questions.
#[derive(Clone, Debug, Default)]
struct Judge {
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Auth for Judge {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<ClientIdentity>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        assert!(request.method.starts_with("/build.bazel.remote.execution.v2.ActionCache/"), "{request:?}");
        match (&request.token[..], request.instance_name.as_str()) {
            (b"good", "main") => {
                Ok(Response::new(ClientIdentity { subject: "ci".into(), ..Default::default() }))
            }
            (b"good", _) => Err(Status::permission_denied("not there")),
            (b"broken", _) => Err(Status::internal("a secret of the judge")),
            _ => Err(Status::unauthenticated("who?")),
        }
    }
}

#[tokio::test]
async fn another_server_decides_of_each_method_and_instance_and_is_not_asked_twice() {
    let judge = Judge::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(AuthServer::new(judge.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let connection = Connection::new(ConnectionOptions::new(&url, "")).unwrap();
    let asks = grid_rpc::auth::server::AuthServer::new(&connection, Duration::from_secs(20));
    let world = serve(AuthOptions { authorizer: Some(Arc::new(asks)), ..AuthOptions::default() }).await;
    for _ in 0..10 {
        assert_eq!(world.get("main", Some("good")).await, Code::NotFound);
    }
    assert_eq!(judge.asked.load(Ordering::Relaxed), 1, "an answer stands for a while");
    assert_eq!(world.update("main", Some("good")).await, Code::Ok);
    assert_eq!(judge.asked.load(Ordering::Relaxed), 2, "another method is another question");
    assert_eq!(world.get("open", Some("good")).await, Code::PermissionDenied);
    assert_eq!(world.get("main", Some("bad")).await, Code::Unauthenticated);
    assert_eq!(world.get("main", None).await, Code::Unauthenticated);
    assert_eq!(world.get("main", Some("broken")).await, Code::Unavailable);
}

#[tokio::test]
async fn an_acl_binds_callers_of_whom_nothing_is_asked() {
    let acl = Acl::parse("open: {allow: all}\nmain: {allow: [{subject: ci}]}").unwrap();
    let policy = Arc::new(Policy { acl: Some(acl.into()), ..Policy::default() });
    let world = serve(AuthOptions { anonymous: true, policy, ..AuthOptions::default() }).await;
    assert_eq!(world.get("open", None).await, Code::NotFound);
    assert_eq!(world.get("main", None).await, Code::PermissionDenied);
}
