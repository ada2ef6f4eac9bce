//! Execute to result through real services, on both databases.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod fleet;
mod support;

use std::sync::Arc;
use std::time::Duration;

use grid_cas::client::{Connection, ConnectionOptions};
use grid_proto::any;
use grid_proto::buildgrid::ClientIdentity;
use grid_proto::bytestream::byte_stream_server::ByteStreamServer;
use grid_proto::logstream::log_stream_service_server::LogStreamServiceServer;
use grid_proto::longrunning::{
    self, CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
};
use grid_proto::reapi::execution_stage::Value as Stage;
use grid_proto::reapi::{
    ActionResult, ExecuteOperationMetadata, ExecuteRequest, ExecutedActionMetadata, RequestMetadata,
    ToolDetails, WaitExecutionRequest,
};
use grid_proto::rpc::PreconditionFailure;
use grid_proto::rwapi::worker;
use grid_rpc::Instances;
use grid_rpc::bots::RemoteLogs;
use grid_rpc::bytestream::ByteStreamService;
use grid_rpc::digests::to_wire;
use grid_rpc::metadata::{self, CLIENT_IDENTITY, REQUEST_METADATA};
use grid_scheduler::SchedulerOptions;
use grid_scheduler::history::Run;
use grid_scheduler::service::{Assigned, Counts, Observer, SchedulerEvent};
use grid_streams::{LogStreamStore as _, SqlLogStreamStore};
use http::uri::PathAndQuery;
use prost::Message;
use support::{Bot, Grid, INSTANCE, Kind, Shared, finish, last, response};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Server;
use tonic::{Code, Streaming};

const WAIT: Duration = Duration::from_secs(30);
const LINUX: &[(&str, &str)] = &[("OSFamily", "linux")];

fn stage(operation: &longrunning::Operation) -> Stage {
    let metadata: ExecuteOperationMetadata = any::unpack(operation.metadata.as_ref().unwrap()).unwrap();
    metadata.stage()
}

async fn grid(kind: Kind) -> (Shared, Grid) {
    let shared = Shared::new(kind).await;
    let grid = Grid::start(&shared, SchedulerOptions::default()).await;
    (shared, grid)
}

/// Runs a test on both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { use super::*; $(#[tokio::test] async fn $name() { super::$name(Kind::Sqlite).await; })* }
        mod postgres { use super::*; $(#[tokio::test] async fn $name() { super::$name(Kind::Postgres).await; })* }
    };
}

on_both!(
    an_action_goes_from_client_to_bot_and_back,
    a_second_client_joins_and_a_third_is_served_from_the_cache,
    missing_inputs_are_named,
    the_last_client_to_cancel_ends_the_job_and_withdraws_the_lease,
    a_deleted_operation_is_forgotten_and_its_job_goes_on,
    who_asked_for_an_operation_is_told_after_the_answer,
    a_failed_lease_is_retried_and_a_late_result_refused,
    work_survives_a_restart_and_moves_between_replicas,
    operations_are_listed_by_filter_in_pages,
    undeclared_properties_are_refused_by_name,
    a_bot_without_the_properties_gets_nothing,
    log_streams_are_told_to_bot_and_client_while_the_action_runs,
    log_streams_end_with_their_lease_whoever_ends_it,
    as_many_log_streams_are_told_as_any_bot_takes_and_new_ones_first,
    log_streams_are_made_and_ended_at_another_server,
    a_lease_does_not_wait_for_log_streams_of_a_server_that_is_away,
    a_bot_without_room_is_told_to_call_again_soon,
    the_stages_that_a_bot_tells_of_are_observed,
);

async fn an_action_goes_from_client_to_bot_and_back(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(Duration::from_secs(1)).await;
    assert!(bot.session.leases.is_empty());
    let action = shared.action("hello", LINUX, |_| {}).await;
    let (first, stream) = grid.execute(action).await;
    assert_eq!(stage(&first), Stage::Queued);
    assert!(first.name.starts_with(&format!("{INSTANCE}/")));
    bot.update(WAIT).await.unwrap();
    let payload = bot.session.leases[0].payload.as_ref().unwrap();
    let sent: grid_proto::reapi::Action = any::unpack(payload).unwrap();
    assert_eq!(grid_core::Digest::of(action.function(), &sent.encode_to_vec()), action);
    bot.complete(3);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert!(bot.session.leases.is_empty());
    let done = last(stream).await;
    assert_eq!(stage(&done), Stage::Completed);
    let response = response(&done);
    let result = response.result.unwrap();
    assert_eq!((result.exit_code, response.cached_result), (3, false));
    let metadata = result.execution_metadata.unwrap();
    assert_eq!(metadata.worker, "b1");
    assert!(metadata.queued_timestamp.is_some() && metadata.worker_start_timestamp.is_some());
}

async fn a_second_client_joins_and_a_third_is_served_from_the_cache(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("same", LINUX, |_| {}).await;
    let (one, first) = grid.execute(action).await;
    let (two, second) = grid.execute(action).await;
    assert_ne!(one.name, two.name);
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1);
    bot.complete(0);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert!(bot.session.leases.is_empty(), "the same action ran twice");
    for stream in [first, second] {
        assert_eq!(response(&last(stream).await).result.unwrap().stdout_raw, "done");
    }
    let (third, _) = grid.execute(action).await;
    assert!(response(&third).cached_result);

    let private = shared.action("private", LINUX, |action| action.do_not_cache = true).await;
    let _held = (grid.execute(private).await, grid.execute(private).await);
    bot.update(WAIT).await.unwrap();
    bot.complete(0);
    bot.update(WAIT).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1, "jobs that are not cached are not shared");
}

async fn missing_inputs_are_named(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let absent = grid_core::Digest::of(grid_core::DigestFunction::Sha256, b"absent");
    let lost = shared.action("x", LINUX, |action| action.input_root_digest = Some(to_wire(&absent))).await;
    for action in [absent, lost] {
        let request = ExecuteRequest {
            instance_name: INSTANCE.into(),
            action_digest: Some(to_wire(&action)),
            ..ExecuteRequest::default()
        };
        let status = grid.execution().execute(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let details = grid_proto::rpc::Status::decode(status.details()).unwrap();
        let failure: PreconditionFailure = any::unpack(&details.details[0]).unwrap();
        assert_eq!(failure.violations[0].r#type, "MISSING");
        assert_eq!(failure.violations[0].subject, format!("blobs/{absent}"));
    }
}

async fn the_last_client_to_cancel_ends_the_job_and_withdraws_the_lease(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("long", LINUX, |_| {}).await;
    let (one, first) = grid.execute(action).await;
    let (two, second) = grid.execute(action).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1);
    let cancel = |name: String| CancelOperationRequest { name };
    grid.operations().cancel_operation(cancel(one.name)).await.unwrap();
    let cancelled = last(first).await;
    let Some(longrunning::operation::Result::Error(error)) = cancelled.result else { panic!("no error") };
    assert_eq!(error.code, Code::Cancelled as i32);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1, "another client still waits");
    let bare = two.name.rsplit('/').next().unwrap().to_owned();
    grid.operations().cancel_operation(cancel(bare)).await.unwrap();
    grid.operations().cancel_operation(cancel(two.name)).await.unwrap();
    assert!(last(second).await.done);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert!(bot.session.leases.is_empty(), "the lease is withdrawn");
    let unknown = format!("{INSTANCE}/{}", uuid::Uuid::new_v4());
    let status = grid.operations().cancel_operation(cancel(unknown)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

async fn a_deleted_operation_is_forgotten_and_its_job_goes_on(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("forgotten", LINUX, |_| {}).await;
    let (operation, stream) = grid.execute(action).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1);
    let name = || operation.name.clone();
    grid.operations().delete_operation(DeleteOperationRequest { name: name() }).await.unwrap();
    let found = grid.operations().get_operation(GetOperationRequest { name: name() }).await;
    assert_eq!(found.unwrap_err().code(), Code::NotFound);
    let again = grid.operations().delete_operation(DeleteOperationRequest { name: name() }).await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1, "the lease stays");
    bot.complete(0);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(response(&last(stream).await).result.unwrap().stdout_raw, "done", "who watched sees the end");
    let (cached, _) = grid.execute(action).await;
    assert!(response(&cached).cached_result);
}

async fn who_asked_for_an_operation_is_told_after_the_answer(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("told", LINUX, |_| {}).await;
    let details = ToolDetails { tool_name: "bazel".into(), tool_version: "7.7.1".into() };
    let sent = RequestMetadata {
        tool_details: Some(details),
        tool_invocation_id: "an invocation".into(),
        target_id: "//a:b".into(),
        ..RequestMetadata::default()
    };
    let client = ClientIdentity { actor: "ci".into(), subject: "ada".into(), workflow: "nightly".into() };
    let mut request = tonic::Request::new(ExecuteRequest {
        instance_name: INSTANCE.into(),
        action_digest: Some(to_wire(&action)),
        ..ExecuteRequest::default()
    });
    let bytes = |message: Vec<u8>| MetadataValue::from_bytes(&message);
    request.metadata_mut().insert_bin(REQUEST_METADATA, bytes(sent.encode_to_vec()));
    request.metadata_mut().insert_bin(CLIENT_IDENTITY, bytes(client.encode_to_vec()));
    let mut stream = grid.execution().execute(request).await.unwrap().into_inner();
    let known = stream.message().await.unwrap().unwrap().name;
    let (unknown, _stream) = grid.execute(action).await;

    let (ahead, after) = raw_get(&grid, &known).await;
    assert!(!ahead.contains_key(REQUEST_METADATA) && !ahead.contains_key(CLIENT_IDENTITY), "{ahead:?}");
    let told = metadata::decode::<RequestMetadata>(&after, REQUEST_METADATA).unwrap();
    assert_eq!(told, RequestMetadata { action_id: action.to_string(), ..sent });
    assert_eq!(metadata::decode::<ClientIdentity>(&after, CLIENT_IDENTITY).unwrap(), client);
    let (_, after) = raw_get(&grid, &unknown.name).await;
    assert!(!after.contains_key(REQUEST_METADATA) && !after.contains_key(CLIENT_IDENTITY), "{after:?}");
}

/// The metadata ahead of `GetOperation`'s answer and after it, which a client of one answer gets as one.
async fn raw_get(grid: &Grid, name: &str) -> (MetadataMap, MetadataMap) {
    let mut client = tonic::client::Grpc::new(grid.channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<GetOperationRequest, longrunning::Operation>::default();
    let path = PathAndQuery::from_static("/google.longrunning.Operations/GetOperation");
    let request = tonic::Request::new(GetOperationRequest { name: name.to_owned() });
    let (ahead, mut answers, _) = client.server_streaming(request, path, codec).await.unwrap().into_parts();
    assert_eq!(answers.message().await.unwrap().unwrap().name, name);
    (ahead, answers.trailers().await.unwrap().unwrap_or_default())
}

async fn a_failed_lease_is_retried_and_a_late_result_refused(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("flaky", LINUX, |_| {}).await;
    let (_, stream) = grid.execute(action).await;
    let mut first = grid.bot("b1", LINUX);
    first.create(WAIT).await;
    let mut late: Bot = first.clone();
    finish(&mut first.session.leases[0], Code::Internal as i32, None);
    first.update(WAIT).await.unwrap();
    assert_eq!(first.session.leases.len(), 1, "the job is given out again");
    assert_ne!(first.session.leases[0].id, late.session.leases[0].id);

    // The same bot opens another session: what the old one held goes to it.
    let mut second = grid.bot("b1", LINUX);
    second.create(WAIT).await;
    assert_eq!(second.session.leases.len(), 1);
    late.complete(99);
    assert_eq!(late.update(WAIT).await.unwrap_err().code(), Code::InvalidArgument);
    second.complete(0);
    second.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(response(&last(stream).await).result.unwrap().exit_code, 0);
    assert_eq!(grid_cache::ActionCache::get(&*shared.cache, &action).await.unwrap().unwrap().exit_code, 0);
}

async fn work_survives_a_restart_and_moves_between_replicas(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("durable", LINUX, |_| {}).await;
    let (queued, _) = grid.execute(action).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1);
    drop(grid);
    let other = Grid::start(&shared, SchedulerOptions::default()).await;
    let request = WaitExecutionRequest { name: queued.name };
    let stream = other.execution().wait_execution(request).await.unwrap().into_inner();
    bot.client = other.bot("b1", LINUX).client;
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1, "the lease lives on");
    bot.complete(0);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(response(&last(stream).await).result.unwrap().exit_code, 0);
}

async fn operations_are_listed_by_filter_in_pages(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let mut names = Vec::new();
    for n in 0..5 {
        let action = shared.action(&format!("a{n}"), LINUX, |_| {}).await;
        names.push(grid.execute(action).await.0.name);
    }
    let list = |filter: &str, page_size, page_token: String| ListOperationsRequest {
        name: INSTANCE.into(),
        filter: filter.into(),
        page_size,
        page_token,
        ..ListOperationsRequest::default()
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = grid.operations().list_operations(list("", 2, token)).await.unwrap().into_inner();
        seen.extend(page.operations.into_iter().map(|o| o.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, names);
    let by = |filter: &'static str| {
        let mut operations = grid.operations();
        async move { operations.list_operations(list(filter, 0, String::new())).await.unwrap().into_inner() }
    };
    assert_eq!(by("platform = OSFamily:linux & sort_order = queued_time(desc)").await.operations.len(), 5);
    assert_eq!(by("platform = OSFamily:macos").await.operations.len(), 0);
    assert_eq!(by("stage = COMPLETED").await.operations.len(), 0);
    let status = grid.operations().list_operations(list("stage ~ x", 0, String::new())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("position 7"), "{}", status.message());
    let one = grid.operations().get_operation(GetOperationRequest { name: names[0].clone() }).await.unwrap();
    assert_eq!(stage(one.get_ref()), Stage::Queued);
}

async fn undeclared_properties_are_refused_by_name(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("x", &[("gpu", "yes")], |_| {}).await;
    let request = ExecuteRequest {
        instance_name: INSTANCE.into(),
        action_digest: Some(to_wire(&action)),
        ..ExecuteRequest::default()
    };
    let status = grid.execution().execute(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("gpu") && status.message().contains("OSFamily"),
        "{}",
        status.message()
    );
}

async fn a_bot_without_the_properties_gets_nothing(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let action = shared.action("x", &[("ISA", "sparc")], |_| {}).await;
    let (_, _stream) = grid.execute(action).await;
    let mut wrong = grid.bot("b1", &[("ISA", "x86-64")]);
    wrong.create(Duration::from_secs(5)).await;
    assert!(wrong.session.leases.is_empty());
    let mut right = grid.bot("b2", &[("ISA", "x86-64"), ("ISA", "sparc")]);
    right.create(WAIT).await;
    assert_eq!(right.session.leases.len(), 1);
    let result: Option<ActionResult> = None;
    finish(&mut right.session.leases[0], Code::FailedPrecondition as i32, result.as_ref());
    right.update(Duration::from_secs(1)).await.unwrap();
}

/// What replicas share, log streams among it, and where these are kept.
async fn with_logs(kind: Kind) -> (Shared, Arc<SqlLogStreamStore>, tempfile::TempDir) {
    let mut shared = Shared::new(kind).await;
    let (database, folder) = grid_scheduler_sql::testing::sqlite().await;
    let store = Arc::new(SqlLogStreamStore::new(database, Arc::new(grid_core::SystemClock), 1 << 20));
    let instance = grid_core::InstanceName::new(INSTANCE).unwrap();
    shared.logs = Some(grid_rpc::logstream::LogStreams::new(Arc::clone(&store) as _, [instance], ""));
    (shared, store, folder)
}

/// Reads an operation until it tells of streams other than these, and gives their names.
async fn streams(operations: &mut Streaming<longrunning::Operation>, others: &[String]) -> Vec<String> {
    loop {
        let operation = operations.message().await.unwrap().unwrap();
        let metadata: ExecuteOperationMetadata = any::unpack(operation.metadata.as_ref().unwrap()).unwrap();
        let names = vec![metadata.stdout_stream_name, metadata.stderr_stream_name];
        if !names[0].is_empty() && names != others {
            return names;
        }
    }
}

/// Returns once these streams have ended.
async fn ended(store: &SqlLogStreamStore, names: &[String]) {
    for name in names {
        let mut state = store.state(name, None).await.unwrap();
        while !state.finished {
            state = store.changed(name, state, WAIT).await.unwrap();
        }
    }
}

async fn log_streams_are_told_to_bot_and_client_while_the_action_runs(kind: Kind) {
    let (shared, store, _folder) = with_logs(kind).await;
    let grid = Grid::start(&shared, SchedulerOptions::default()).await;
    let action = shared.action("x", LINUX, |_| {}).await;
    let (_, mut stream) = grid.execute(action).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    let about = bot.about.clone();
    assert_eq!(about[0].action_digest, Some(to_wire(&action)));
    let told = streams(&mut stream, &[]).await;
    assert!(about[0].stdout_stream_name.starts_with(&format!("{}/", told[0])), "{about:?}");
    assert!(about[0].stderr_stream_name.starts_with(&format!("{}/", told[1])), "{about:?}");
    assert_ne!(told[0], told[1]);
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert_eq!(bot.about, about, "they stay as they are");
    bot.complete(0);
    bot.update(Duration::from_secs(1)).await.unwrap();
    ended(&store, &told).await;
}

async fn as_many_log_streams_are_told_as_any_bot_takes_and_new_ones_first(kind: Kind) {
    let (shared, _store, _folder) = with_logs(kind).await;
    let grid = Grid::start(&shared, SchedulerOptions::default()).await;
    let mut bot = grid.bot("b1", LINUX);
    let capacity = worker::Config { key: "capacity".into(), value: "40".into() };
    bot.session.worker.as_mut().unwrap().configs.push(capacity);
    let mut clients = Vec::new();
    for number in 0..40 {
        let action = shared.action(&number.to_string(), LINUX, |_| {}).await;
        clients.push(grid.execute(action).await);
    }
    bot.create(WAIT).await;
    while bot.session.leases.len() < 40 {
        bot.update(WAIT).await.unwrap();
    }
    let size: usize = bot.about.iter().map(|about| about.encoded_len().div_ceil(3) * 4 + 60).sum();
    assert!(size <= 6 << 10 && bot.about.len() > 5, "{} streams in {size} bytes", bot.about.len());
    finish(&mut bot.session.leases[0], 0, Some(&ActionResult::default()));
    let action = shared.action("new", LINUX, |_| {}).await;
    clients.push(grid.execute(action).await);
    bot.update(WAIT).await.unwrap();
    while bot.session.leases.len() < 40 {
        bot.update(WAIT).await.unwrap();
    }
    assert!(bot.about.iter().any(|about| about.action_digest == Some(to_wire(&action))), "{:?}", bot.about);
}

/// The log streams of the server at `url`.
fn logs_at(url: &str) -> Arc<RemoteLogs> {
    Arc::new(RemoteLogs::new(Connection::new(ConnectionOptions::new(url, "")).unwrap()))
}

async fn log_streams_are_made_and_ended_at_another_server(kind: Kind) {
    let (mut shared, store, _folder) = with_logs(kind).await;
    let logs = shared.logs.take().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    shared.logs_elsewhere = Some(logs_at(&format!("http://{}", listener.local_addr().unwrap())));
    let bytes = ByteStreamService::new(Instances::new("ByteStream", []), Some(logs.clone()), WAIT);
    let server = Server::builder()
        .add_service(LogStreamServiceServer::new(logs))
        .add_service(ByteStreamServer::new(bytes))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let grid = Grid::start(&shared, SchedulerOptions::default()).await;
    let (_, mut stream) = grid.execute(shared.action("x", LINUX, |_| {}).await).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    let told = streams(&mut stream, &[]).await;
    let write_name = bot.about[0].stdout_stream_name.clone();
    let (name, token) = write_name.rsplit_once('/').unwrap();
    assert_eq!(name, told[0]);
    store.append(name, token, 0, "half a line".into(), false).await.unwrap();
    bot.complete(0);
    bot.update(Duration::from_secs(1)).await.unwrap();
    // One was written to and not ended, the other never written to.
    ended(&store, &told).await;
    assert_eq!(store.state(name, None).await.unwrap().committed, 11);
    server.abort();
}

async fn a_lease_does_not_wait_for_log_streams_of_a_server_that_is_away(kind: Kind) {
    let mut shared = Shared::new(kind).await;
    shared.logs_elsewhere = Some(logs_at("http://127.0.0.1:1"));
    let grid = Grid::start(&shared, SchedulerOptions::default()).await;
    let (_, _stream) = grid.execute(shared.action("x", LINUX, |_| {}).await).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1);
    assert!(bot.about.is_empty());
}

async fn log_streams_end_with_their_lease_whoever_ends_it(kind: Kind) {
    let (shared, store, _folder) = with_logs(kind).await;
    let grid = Grid::start(&shared, SchedulerOptions::default()).await;
    let elsewhere = Grid::start(&shared, SchedulerOptions::default()).await;
    let action = shared.action("x", LINUX, |_| {}).await;
    let (operation, mut stream) = grid.execute(action).await;
    let mut lost = grid.bot("b1", LINUX);
    lost.create(WAIT).await;
    let first = streams(&mut stream, &[]).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1, "the bot came anew, and the job is tried again");
    ended(&store, &first).await;
    let second = streams(&mut stream, &first).await;
    let open = store.state(&second[0], None).await.unwrap();
    assert!(!open.finished, "the streams of a live lease stay open");

    let cancel = CancelOperationRequest { name: operation.name };
    elsewhere.operations().cancel_operation(cancel).await.unwrap();
    ended(&store, &second).await;
}

async fn a_bot_without_room_is_told_to_call_again_soon(kind: Kind) {
    let (shared, grid) = grid(kind).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(Duration::from_secs(1)).await;
    let left = |bot: &Bot| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        bot.session.expire_time.unwrap().seconds - i64::try_from(now.as_secs()).unwrap()
    };
    assert!(left(&bot) > 60, "a bot with room is held, and need not hurry");
    grid.execute(shared.action("x", LINUX, |_| {}).await).await;
    bot.update(WAIT).await.unwrap();
    bot.update(WAIT).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1);
    assert!(left(&bot) < 60, "it is not held, and would hear of a cancellation in {} s only", left(&bot));
    let configs = &mut bot.session.worker.as_mut().unwrap().configs;
    configs.push(worker::Config { key: "long-poll".into(), value: "always".into() });
    bot.update(Duration::from_secs(1)).await.unwrap();
    assert!(left(&bot) > 60, "it is held, whether it has room or not");
}

/// Notes stages.
#[derive(Debug, Default)]
struct Stages(parking_lot::Mutex<Vec<(String, &'static str, Duration)>>);

impl Observer for Stages {
    fn assigned(&self, _: Assigned<'_>) {}

    fn ended(&self, _: &str, _: &Run) {}

    fn counted(&self, _: &Counts) {}

    fn event(&self, event: SchedulerEvent<'_>) {
        if let SchedulerEvent::Stage { instance, stage, took, .. } = event {
            self.0.lock().push((instance.to_owned(), stage, took));
        }
    }
}

async fn the_stages_that_a_bot_tells_of_are_observed(kind: Kind) {
    let (shared, stages) = (Shared::new(kind).await, Arc::new(Stages::default()));
    let options = SchedulerOptions { observer: Some(stages.clone()), ..SchedulerOptions::default() };
    let grid = Grid::start(&shared, options).await;
    let (_, stream) = grid.execute(shared.action("staged", LINUX, |_| {}).await).await;
    let mut bot = grid.bot("b1", LINUX);
    bot.create(WAIT).await;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let metadata = ExecutedActionMetadata {
        input_fetch_start_timestamp: at(10),
        input_fetch_completed_timestamp: at(11),
        execution_start_timestamp: at(12),
        execution_completed_timestamp: at(17),
        // It does not say when that was over.
        output_upload_start_timestamp: at(18),
        ..ExecutedActionMetadata::default()
    };
    let result = ActionResult { execution_metadata: Some(metadata), ..ActionResult::default() };
    finish(&mut bot.session.leases[0], 0, Some(&result));
    bot.update(Duration::from_secs(1)).await.unwrap();
    last(stream).await;
    let told = |stage, seconds| (INSTANCE.to_owned(), stage, Duration::from_secs(seconds));
    assert_eq!(*stages.0.lock(), [told("Fetch", 1), told("Execution", 5)]);
}
