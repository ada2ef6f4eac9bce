//! The examples of the configuration's tests, started as they are but for addresses, and a call on each service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use grid_proto::bytestream::ReadRequest;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::longrunning::ListOperationsRequest;
use grid_proto::longrunning::operations_client::OperationsClient;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{
    ActionResult, ExecuteRequest, FindMissingBlobsRequest, GetActionResultRequest, GetCapabilitiesRequest,
    UpdateActionResultRequest,
};
use grid_scheduler_sql::testing;
use rcgen::KeyPair;
use support::{Calls, Server, digest};
use tokio::net::UdpSocket;
use tonic::Code;

/// What stands behind the examples that name another server.
const STORAGE: &str = "
instances:
  - name: ''
    storages: [!lru-storage &cas {size: 10M}]
    caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}]
";

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tests/fixtures/examples");
    let text = std::fs::read_to_string(folder.join(name).with_extension("yml")).unwrap();
    ["port: 50051", "address: localhost:50051", "address: localhost:50052", "address: \"localhost:50051\""]
        .iter()
        .fold(text, |text, address| text.replace(address, "address: '127.0.0.1:0'"))
}

/// A client of one instance of a server.
struct Client {
    calls: Calls,
    instance: String,
}

impl Client {
    async fn of(server: &Server) -> Self {
        Self { calls: server.channel().await, instance: String::new() }
    }

    fn cas(&self) -> ContentAddressableStorageClient<Calls> {
        ContentAddressableStorageClient::new(self.calls.clone())
    }

    async fn capabilities(&self, executes: bool) {
        let request = GetCapabilitiesRequest { instance_name: self.instance.clone() };
        let answer = CapabilitiesClient::new(self.calls.clone()).get_capabilities(request).await.unwrap();
        let answer = answer.into_inner();
        assert!(answer.cache_capabilities.is_some());
        assert_eq!(answer.execution_capabilities.is_some(), executes);
    }

    async fn blobs(&self) {
        let (action, _) = support::store_action_of(self.calls.clone(), &self.instance, &["seed"]).await;
        let request = FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            blob_digests: vec![action.clone(), digest(b"never stored")],
            ..FindMissingBlobsRequest::default()
        };
        let missing = self.cas().find_missing_blobs(request).await.unwrap().into_inner();
        assert_eq!(missing.missing_blob_digests, [digest(b"never stored")]);
        let prefix = if self.instance.is_empty() { String::new() } else { format!("{}/", self.instance) };
        let resource_name = format!("{prefix}blobs/{}/{}", action.hash, action.size_bytes);
        let request = ReadRequest { resource_name, ..ReadRequest::default() };
        let mut stream = ByteStreamClient::new(self.calls.clone()).read(request).await.unwrap().into_inner();
        let content = stream.message().await.unwrap().unwrap().data;
        assert_eq!(digest(&content), action);
    }

    async fn result_of(&self, action: &grid_proto::reapi::Digest) -> Result<ActionResult, tonic::Status> {
        let request = GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action.clone()),
            ..GetActionResultRequest::default()
        };
        let answer = ActionCacheClient::new(self.calls.clone()).get_action_result(request).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn results(&self) {
        let action = digest(b"some action");
        assert_eq!(self.result_of(&action).await.unwrap_err().code(), Code::NotFound);
        let update = UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action.clone()),
            action_result: Some(ActionResult { exit_code: 5, ..ActionResult::default() }),
            ..UpdateActionResultRequest::default()
        };
        ActionCacheClient::new(self.calls.clone()).update_action_result(update).await.unwrap();
        assert_eq!(self.result_of(&action).await.unwrap().exit_code, 5);
    }

    fn executed(&self, action: grid_proto::reapi::Digest) -> ExecuteRequest {
        let instance_name = self.instance.clone();
        ExecuteRequest { instance_name, action_digest: Some(action), ..ExecuteRequest::default() }
    }

    /// An action whose inputs `blobs` takes runs on a bot of this client's server; its result is cached.
    async fn execution(&self, blobs: &Self) {
        let (action, _) = support::store_action_of(blobs.calls.clone(), &blobs.instance, &["true"]).await;
        let mut client = ExecutionClient::new(self.calls.clone());
        let mut stream = client.execute(self.executed(action.clone())).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert!(!first.done);
        self.operation(&first.name).await;
        support::run_one_lease_of(self.calls.clone(), &self.instance, 0).await;
        let done = loop {
            let operation = stream.message().await.unwrap().unwrap();
            if operation.done {
                break operation;
            }
        };
        assert_eq!(support::exit_code(&done), 0);
        assert_eq!(blobs.result_of(&action).await.unwrap().exit_code, 0);
    }

    async fn operation(&self, name: &str) {
        let request =
            ListOperationsRequest { name: self.instance.clone(), ..ListOperationsRequest::default() };
        let list = OperationsClient::new(self.calls.clone()).list_operations(request).await.unwrap();
        let list = list.into_inner().operations;
        assert!(list.iter().any(|operation| operation.name == name), "{name} is not in {list:?}");
    }

    async fn refuses_blobs(&self) {
        let request = FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            ..FindMissingBlobsRequest::default()
        };
        assert_eq!(self.cas().find_missing_blobs(request).await.unwrap_err().code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn everything_in_one_server() {
    for name in ["all-in-one", "all-in-one-with-statsd"] {
        let statsd = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = example(name).replace("statsd:8125", &statsd.local_addr().unwrap().to_string());
        let server = Server::document(&config).await;
        let client = Client::of(&server).await;
        client.capabilities(true).await;
        client.blobs().await;
        client.results().await;
        client.execution(&client).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_configuration_for_a_machine_in_a_pod() {
    let volume = tempfile::tempdir().unwrap();
    let free = tokio::net::TcpListener::bind("[::]:0").await.unwrap().local_addr().unwrap().port();
    let pod = format!("pod: {{port: {free}, working-directory: {}}}\n", volume.path().display());
    let server = Server::document(&format!("{}\n{pod}", example("all-in-one"))).await;
    assert!(server.address().ends_with(&format!(":{free}")), "{}", server.address());
    let client = Client::of(&server).await;
    client.blobs().await;
    client.execution(&client).await;
    server.stop().await;
    assert!(volume.path().join("example.db").is_file(), "its relative paths begin on the volume");
}

#[tokio::test]
async fn a_cache_alone() {
    let server = Server::document(&example("cache-alone")).await;
    let client = Client::of(&server).await;
    client.capabilities(false).await;
    client.blobs().await;
    client.results().await;
    server.stop().await;
}

#[tokio::test]
async fn blobs_alone() {
    let statsd = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = statsd.local_addr().unwrap().to_string();
    let config = example("fragment-statsd-and-threads").replace("statsd-server:8125", &address);
    let server = Server::document(&config).await;
    let client = Client::of(&server).await;
    client.capabilities(false).await;
    client.blobs().await;
    let published = async {
        let mut heard = String::new();
        let mut datagram = vec![0; 65_536];
        let expected = [
            "buildgrid.rpc.duration.ms,",
            "instanceName=unnamed",
            "buildgrid.storage.bulk_write.duration.ms,",
        ];
        while !expected.iter().all(|part| heard.contains(part)) {
            let length = statsd.recv(&mut datagram).await.unwrap();
            heard.push_str(std::str::from_utf8(&datagram[..length]).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), published).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn execution_over_storage_elsewhere() {
    for name in ["execution-alone", "fragment-data-store"] {
        let storage = Server::start(STORAGE).await;
        let server =
            Server::document(&example(name).replace("http://storage:50052", storage.address())).await;
        let (client, blobs) = (Client::of(&server).await, Client::of(&storage).await);
        client.capabilities(true).await;
        client.refuses_blobs().await;
        client.execution(&blobs).await;
        server.stop().await;
        storage.stop().await;
    }
}

#[tokio::test]
async fn fragments_with_a_scheduler() {
    let url = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
    support::migrate(&url).await;
    for name in
        ["fragment-permissive-bot-session", "fragment-postgresql", "fragment-pruner", "fragment-sqlite"]
    {
        let config = example(name)
            .replace("postgresql://username:password@sql_server/database_name", &url)
            .replace("/path/to/sqlite.db", "sqlite.db");
        let server = Server::document(&config).await;
        let client = Client::of(&server).await;
        client.capabilities(true).await;
        client.refuses_blobs().await;
        // Clients have no way to store an action here, so that none can run.
        let execute = client.executed(digest(b"never stored"));
        let refused = ExecutionClient::new(client.calls.clone()).execute(execute).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{name}");
        let list = ListOperationsRequest::default();
        OperationsClient::new(client.calls.clone()).list_operations(list).await.unwrap();
        server.stop().await;
    }
}

/// A key pair, its public half as a key set behind a URL.
async fn issuer() -> (jsonwebtoken::EncodingKey, String) {
    let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
    let public = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::RS256).unwrap();
    let set = serde_json::json!({ "keys": [public] }).to_string();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let router = Router::new().route("/jwks.json", get(move || async move { set }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (key, url)
}

#[tokio::test]
async fn the_reference() {
    let database = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
    let (key, url) = issuer().await;
    let config = example("reference")
        .replace("postgresql://bgd:insecure@database/bgd", &database)
        .replace("https://test.dev/.well-known/jwks.json", &url);
    let server = Server::document(&config).await;
    let stranger = Client { calls: server.channel().await, instance: "main".to_owned() };
    assert_eq!(stranger.result_of(&digest(b"x")).await.unwrap_err().code(), Code::Unauthenticated);

    let claims = serde_json::json!({ "sub": "dev", "aud": "BuildGrid", "exp": 4_000_000_000_u64 });
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let client = Client { calls: server.channel_showing(Some(&token)).await, instance: "main".to_owned() };
    client.capabilities(true).await;
    client.blobs().await;
    client.execution(&client).await;
    server.stop().await;
}
