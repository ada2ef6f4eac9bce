//! What stands before the services: pages in browsers, rates, traces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use grid_proto::logstream::CreateLogStreamRequest;
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use grid_proto::longrunning::WaitOperationRequest;
use grid_proto::longrunning::operations_client::OperationsClient;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{ExecuteRequest, GetCapabilitiesRequest, ServerCapabilities};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use reqwest::{Client, Method, StatusCode};
use support::{Calls, Server};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

const INSTANCES: &str = "
storages: [!lru-storage &cas {size: 10M}]
caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100}]
schedulers: [!sql-scheduler &queue {storage: *cas, action-cache: *results}]
instances:
  - name: ''
    services: [!cas {storage: *cas}, !action-cache {cache: *results}, !execution {scheduler: *queue}]
";
const CAPABILITIES: &str = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
const PAGE: &str = "https://ui.example.org";

/// A message as gRPC-web frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

async fn web_call(server: &Server, origin: &str) -> reqwest::Response {
    let call = Client::new().post(format!("{}{CAPABILITIES}", server.address()));
    let call = call.header("content-type", "application/grpc-web+proto").header("origin", origin);
    call.body(framed(&GetCapabilitiesRequest::default().encode_to_vec())).send().await.unwrap()
}

#[tokio::test]
async fn a_page_calls_by_grpc_web_where_its_origin_may() {
    let server = Server::start(&format!("grpc-web: {{origins: ['{PAGE}']}}\n{INSTANCES}")).await;
    let answer = web_call(&server, PAGE).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
    let body = answer.bytes().await.unwrap();
    let length = usize::try_from(u32::from_be_bytes(body[1..5].try_into().unwrap())).unwrap();
    let told = ServerCapabilities::decode(&body[5..5 + length]).unwrap();
    assert!(told.cache_capabilities.is_some() && told.execution_capabilities.is_some(), "{told:?}");
    let trailers = &body[5 + length..];
    assert_eq!(trailers[0], 0x80, "the second frame has the trailers");
    assert!(String::from_utf8_lossy(trailers).contains("grpc-status:0"), "{trailers:?}");

    let stranger = web_call(&server, "https://evil.example.org").await;
    assert!(!stranger.headers().contains_key("access-control-allow-origin"));
    let preflight = Client::new().request(Method::OPTIONS, format!("{}{CAPABILITIES}", server.address()));
    let preflight = preflight.header("origin", PAGE).header("access-control-request-method", "POST");
    let preflight = preflight.header("access-control-request-headers", "x-grpc-web").send().await.unwrap();
    assert_eq!(preflight.headers()["access-control-allow-headers"], "x-grpc-web");
    assert!(capabilities(server.channel().await, None).await.is_ok(), "gRPC is spoken all the same");
    server.stop().await;
}

#[tokio::test]
async fn without_the_key_no_page_calls() {
    let server = Server::start(INSTANCES).await;
    let call = Client::new().post(format!("{}{CAPABILITIES}", server.address()));
    let call = call.header("content-type", "application/grpc-web+proto").header("origin", PAGE);
    assert!(call.body(framed(&[])).send().await.is_err(), "it speaks HTTP/2 alone");
    server.stop().await;
}

async fn capabilities(channel: Calls, traceparent: Option<&str>) -> Result<(), tonic::Status> {
    let mut request = Request::new(GetCapabilitiesRequest::default());
    if let Some(parent) = traceparent {
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    }
    CapabilitiesClient::new(channel).get_capabilities(request).await.map(drop)
}

/// At one call a second, ten seconds' worth come at once, as many wait, and the others are refused without a wait.
#[tokio::test]
async fn a_connection_above_its_rate_is_slowed_down_then_refused() {
    let server = Server::start(&format!("rates: {{per-connection: 1}}\n{INSTANCES}")).await;
    let channel = server.channel().await;
    let calls: FuturesUnordered<_> = (0..40).map(|_| capabilities(channel.clone(), None)).collect();
    let first: Vec<_> = calls.take(30).collect().await;
    let refused: Vec<_> = first.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(first.len() - refused.len() >= 11, "a burst passes: {} were refused", refused.len());
    assert!(refused.len() >= 10, "{} were refused", refused.len());
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains("rates"), "it says why: {status:?}");
        assert!(!status.details().is_empty(), "it says when to come again");
    }
    assert!(capabilities(server.channel().await, None).await.is_ok(), "another connection is another's");
}

const LOGS: &str = "
storages: [!lru-storage &cas {size: 10M}]
caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100}]
schedulers: [!sql-scheduler &queue {storage: *cas, action-cache: *results}]
instances:
  - name: ''
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !execution {scheduler: *queue}, !logstream {}]
";

/// With one place, whoever only waits leaves it to those who work.
#[tokio::test]
async fn calls_that_wait_for_somebody_else_hold_up_no_work() {
    let server = Server::start(&format!("maximum-concurrent-rpcs: 1\n{LOGS}")).await;
    let channel = server.channel().await;
    let create = || {
        let request = CreateLogStreamRequest { parent: "main".to_owned() };
        let channel = channel.clone();
        async move {
            let created = LogStreamServiceClient::new(channel).create_log_stream(request).await;
            created.unwrap().into_inner()
        }
    };

    let stream = create().await;
    let (sender, messages) = mpsc::channel(1);
    let first = WriteRequest {
        resource_name: stream.write_resource_name.clone(),
        data: "first".into(),
        ..WriteRequest::default()
    };
    sender.send(first).await.unwrap();
    let mut writer = ByteStreamClient::new(channel.clone());
    let writing = tokio::spawn(async move { writer.write(ReceiverStream::new(messages)).await });
    let follow = ReadRequest { resource_name: stream.name, ..ReadRequest::default() };
    let mut reader = ByteStreamClient::new(channel.clone()).read(follow).await.unwrap().into_inner();
    assert_eq!(reader.message().await.unwrap().unwrap().data, "first", "its writer is still there");
    drop(reader);

    let (action, _) = support::store_action(channel.clone(), &["true"]).await;
    let request = ExecuteRequest { action_digest: Some(action), ..ExecuteRequest::default() };
    let mut told = ExecutionClient::new(channel.clone()).execute(request).await.unwrap().into_inner();
    let operation = told.message().await.unwrap().unwrap();
    let wait = WaitOperationRequest { name: operation.name, timeout: None };
    let mut waiter = OperationsClient::new(channel.clone());
    let waiting = tokio::spawn(async move { waiter.wait_operation(wait).await });
    let unread = QueryWriteStatusRequest { resource_name: create().await.write_resource_name };
    let mut asker = ByteStreamClient::new(channel.clone());
    let asking = tokio::spawn(async move { asker.query_write_status(unread).await });
    for _ in 0..50 {
        assert!(support::has(channel.clone(), b"").await);
    }
    assert!(!asking.is_finished(), "nobody reads that log");
    asking.abort();

    support::run_one_lease(channel, 0).await;
    assert!(waiting.await.unwrap().unwrap().into_inner().done);
    let last = WriteRequest { write_offset: 5, finish_write: true, ..WriteRequest::default() };
    sender.send(last).await.unwrap();
    assert_eq!(writing.await.unwrap().unwrap().into_inner().committed_size, 5, "it comes back for the end");
    server.stop().await;
}

/// What a collector of traces was sent.
async fn collector() -> (String, mpsc::UnboundedReceiver<Span>) {
    let (sender, spans) = mpsc::unbounded_channel();
    let take = move |body: axum::body::Bytes| async move {
        let sent = ExportTraceServiceRequest::decode(body).unwrap();
        for scope in sent.resource_spans.into_iter().flat_map(|resource| resource.scope_spans) {
            for span in scope.spans {
                sender.send(span).unwrap();
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, spans)
}

#[tokio::test]
async fn traced_calls_are_joined_to_their_clients_and_to_their_actions() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CLIENT: &str = "00f067aa0ba902b7";
    let (url, mut spans) = collector().await;
    let server = Server::start(&format!("tracing: {{endpoint: '{url}'}}\n{INSTANCES}")).await;
    let channel = server.channel().await;
    capabilities(channel.clone(), None).await.unwrap();
    capabilities(channel.clone(), Some(&format!("00-{}-{CLIENT}-00", "1".repeat(32)))).await.unwrap();

    let (action, _) = support::store_action(channel.clone(), &["true"]).await;
    let request = ExecuteRequest { action_digest: Some(action), ..ExecuteRequest::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CLIENT}-01").parse().unwrap());
    let mut told = ExecutionClient::new(channel.clone()).execute(request).await.unwrap().into_inner();
    support::run_one_lease(channel, 0).await;
    while !told.message().await.unwrap().unwrap().done {}
    assert!(told.message().await.unwrap().is_none());
    server.stop().await;

    let mut sent = Vec::new();
    while let Ok(Some(span)) = tokio::time::timeout(Duration::from_millis(1), spans.recv()).await {
        sent.push(span);
    }
    assert!(sent.iter().all(|span| hex(&span.trace_id) == TRACE), "no other call is traced: {sent:#?}");
    let call =
        sent.iter().find(|span| span.name == "build.bazel.remote.execution.v2.Execution/Execute").unwrap();
    assert_eq!((hex(&call.parent_span_id), call.kind), (CLIENT.to_owned(), SpanKind::Server.into()));
    assert_eq!(call.status.clone().unwrap_or_default().code, 0, "that it succeeded is for its client to say");
    let stage = sent.iter().find(|span| span.name == "execute").unwrap();
    assert_eq!(stage.parent_span_id, call.span_id, "{stage:#?}");
    let worker = stage.attributes[0].value.clone().unwrap().value;
    assert_eq!(worker, Some(Value::StringValue("test-bot".to_owned())), "{stage:#?}");
}

#[tokio::test]
async fn requests_of_the_http_cache_are_traced_too() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (url, mut spans) = collector().await;
    let cache = "http-cache: [!channel {address: '127.0.0.1:0', insecure-mode: yes}]";
    let server = Server::start(&format!("tracing: {{endpoint: '{url}'}}\n{cache}\n{INSTANCES}")).await;
    let request = Client::new().get(format!("{}/cas/{}", server.http_cache(), "a".repeat(64)));
    let request = request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    server.stop().await;
    let span = spans.recv().await.unwrap();
    assert_eq!((hex(&span.trace_id), span.name.as_str()), (TRACE.to_owned(), "GET cas"));
    let status =
        span.attributes.iter().find(|attribute| attribute.key == "http.response.status_code").unwrap();
    assert_eq!(status.value.clone().unwrap().value, Some(Value::IntValue(404)));
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
