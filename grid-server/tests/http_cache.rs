//! Bazel's HTTP cache, as Bazel and curl use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::{
    ActionResult, Directory, FileNode, GetActionResultRequest, OutputDirectory, Tree,
    UpdateActionResultRequest,
};
use prost::Message as _;
use reqwest::{Client, Method, StatusCode};
use support::{Server, digest};

const GRID: &str = "
http-cache: [!channel {address: '127.0.0.1:0', insecure-mode: yes}]
AUTHORIZATION
storages: [!disk-storage &cas {path: cas}]
caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100}]
instances:
  - name: ''
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}]
  - name: main/team
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}]
";

struct Cache {
    server: Server,
    address: String,
    client: Client,
}

impl Cache {
    async fn start(authorization: &str) -> Self {
        let server = Server::start(&GRID.replace("AUTHORIZATION", authorization)).await;
        let address = server.http_cache().to_owned();
        Self { server, address, client: Client::new() }
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = self.client.request(method.clone(), format!("{}{path}", self.address));
        let request = if method == Method::PUT { request.body(body) } else { request };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }
}

#[tokio::test]
async fn blobs_and_results_are_put_and_got() {
    let cache = Cache::start("").await;
    let content = vec![5_u8; 3_000_000];
    let name = digest(&content);
    for prefix in ["", "/main/team"] {
        let (blob, result) =
            (format!("{prefix}/cas/{}", name.hash), format!("{prefix}/ac/{}", "a".repeat(64)));
        if prefix.is_empty() {
            assert_eq!(cache.call(Method::GET, &blob, vec![]).await.0, StatusCode::NOT_FOUND);
            assert_eq!(cache.call(Method::HEAD, &result, vec![]).await.0, StatusCode::NOT_FOUND);
        }
        assert_eq!(cache.call(Method::PUT, &blob, content.clone()).await.0, StatusCode::OK);
        assert_eq!(cache.call(Method::GET, &blob, vec![]).await, (StatusCode::OK, content.clone()));
        let head = cache.client.head(format!("{}{blob}", cache.address)).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], "3000000");
        let recorded = ActionResult { stdout_digest: Some(name.clone()), exit_code: 0, ..Default::default() };
        let encoded = recorded.encode_to_vec();
        assert_eq!(cache.call(Method::PUT, &result, encoded.clone()).await.0, StatusCode::OK);
        assert_eq!(cache.call(Method::GET, &result, vec![]).await, (StatusCode::OK, encoded));
    }
    assert!(support::has(cache.server.channel().await, &content).await, "it is a blob like any other");
    let (_, metrics) = cache.server.get("/metrics").await;
    let counted = "grid_http_cache_requests_total{method=\"GET\",kind=\"cas\",status=\"200\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    cache.server.stop().await;
}

#[tokio::test]
async fn results_are_the_same_by_http_and_by_grpc() {
    let cache = Cache::start("").await;
    let channel = cache.server.channel().await;
    let mut results = ActionCacheClient::new(channel.clone());
    let (output, inner) = (b"what an action made".to_vec(), b"a file in a folder that it made".to_vec());
    let file = FileNode { name: "file".into(), digest: Some(digest(&inner)), ..FileNode::default() };
    let root = Directory { files: vec![file], ..Directory::default() };
    let tree = Tree { root: Some(root), ..Tree::default() }.encode_to_vec();
    let (action, _) = support::store_action(channel.clone(), &["by", "grpc"]).await;
    for blob in [&output, &inner, &tree] {
        support::store_blob(channel.clone(), blob.clone()).await;
    }
    let directory = OutputDirectory { tree_digest: Some(digest(&tree)), ..OutputDirectory::default() };
    let recorded = ActionResult {
        stdout_digest: Some(digest(&output)),
        output_directories: vec![directory],
        ..ActionResult::default()
    };
    let update = UpdateActionResultRequest {
        action_digest: Some(action.clone()),
        action_result: Some(recorded.clone()),
        ..UpdateActionResultRequest::default()
    };
    results.update_action_result(update).await.unwrap();
    let (status, got) = cache.call(Method::GET, &format!("/ac/{}", action.hash), vec![]).await;
    assert_eq!((status, ActionResult::decode(&got[..]).unwrap()), (StatusCode::OK, recorded));
    for blob in [&output, &inner, &tree] {
        let got = cache.call(Method::GET, &format!("/cas/{}", digest(blob).hash), vec![]).await;
        assert_eq!(got, (StatusCode::OK, blob.clone()), "what a result names is found by hash");
    }

    let action = digest(b"an action by http");
    let recorded = ActionResult { exit_code: 7, ..ActionResult::default() };
    let put = cache.call(Method::PUT, &format!("/ac/{}", action.hash), recorded.encode_to_vec()).await;
    assert_eq!(put.0, StatusCode::OK);
    let get = GetActionResultRequest { action_digest: Some(action), ..GetActionResultRequest::default() };
    assert_eq!(results.get_action_result(get).await.unwrap().into_inner().exit_code, 7);
    cache.server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_not_kept() {
    let cache = Cache::start("").await;
    let name = digest(b"content");
    let blob = format!("/cas/{}", name.hash);
    assert_eq!(cache.call(Method::PUT, &blob, b"another".to_vec()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(cache.call(Method::GET, &blob, vec![]).await.0, StatusCode::NOT_FOUND);
    let wrong = [
        (Method::PUT, "/cas/nohash".to_owned(), StatusCode::BAD_REQUEST),
        (Method::PUT, format!("/ac/{}", name.hash), StatusCode::BAD_REQUEST),
        (Method::GET, format!("/nowhere/cas/{}", name.hash), StatusCode::BAD_REQUEST),
        (Method::GET, "/etc/passwd".to_owned(), StatusCode::NOT_FOUND),
        (Method::DELETE, blob.clone(), StatusCode::METHOD_NOT_ALLOWED),
    ];
    for (method, path, status) in wrong {
        assert_eq!(cache.call(method, &path, vec![0xff; 9]).await.0, status, "{path}");
    }
    let status = cache.client.get(format!("{}/status", cache.address)).send().await.unwrap();
    assert_eq!(status.headers()["content-type"], "application/json");
    let told: serde_json::Value = serde_json::from_slice(&status.bytes().await.unwrap()).unwrap();
    assert!(told["ServerTime"].is_u64(), "{told}");
    let empty = digest(b"");
    let (status, content) = cache.call(Method::GET, &format!("/cas/{}", empty.hash), vec![]).await;
    assert_eq!((status, content.len()), (StatusCode::OK, 0), "the empty blob is always there");
    cache.server.stop().await;
}

#[tokio::test]
async fn callers_are_judged_as_by_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret of the test").unwrap();
    let authorization = format!(
        "authorization: {{method: jwt, secret: {}, algorithm: hs256, allow-unauthenticated-instances: ['']}}",
        secret.display()
    );
    let cache = Cache::start(&authorization).await;
    let content = b"guarded".to_vec();
    let hash = digest(&content).hash;
    let closed = format!("{}/main/team/cas/{hash}", cache.address);
    let put = |url: &str| cache.client.put(url).body(content.clone());
    let refused = put(&closed).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(put(&format!("{}/cas/{hash}", cache.address)).send().await.unwrap().status(), StatusCode::OK);
    let claims = serde_json::json!({"sub": "dev", "exp": 4_000_000_000_u64});
    let key = jsonwebtoken::EncodingKey::from_secret(b"a secret of the test");
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let bearer = put(&closed).bearer_auth(&token).send().await.unwrap();
    assert_eq!(bearer.status(), StatusCode::OK);
    let password = put(&closed).basic_auth("anybody", Some(&token)).send().await.unwrap();
    assert_eq!(password.status(), StatusCode::OK);
    cache.server.stop().await;
}

#[tokio::test]
async fn a_blob_above_the_limit_is_refused() {
    let limited = GRID.replace("!cas {storage: *cas}", "!cas {storage: *cas, max-blob-size: 1K}");
    let server = Server::start(&limited.replace("AUTHORIZATION", "")).await;
    let cache = Cache { address: server.http_cache().to_owned(), server, client: Client::new() };
    for (length, expected) in [(1 << 10, StatusCode::OK), ((1 << 10) + 1, StatusCode::BAD_REQUEST)] {
        let content = vec![6_u8; length];
        let path = format!("/cas/{}", digest(&content).hash);
        assert_eq!(cache.call(Method::PUT, &path, content).await.0, expected, "{length}");
    }
    cache.server.stop().await;
}
