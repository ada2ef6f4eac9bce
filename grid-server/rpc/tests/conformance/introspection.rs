//! BuildGrid's Introspection service.

use std::time::Duration;

use grid_proto::buildgrid::introspection_client::IntrospectionClient;
use grid_proto::buildgrid::{
    GetJobHistoryRequest, GetOperationFiltersRequest, GetRequestMetadataSummaryRequest, JobEventType,
    ListRequestMetadataRequest, ListWorkersRequest, ListWorkersResponse, OperationStatsRequest,
    RequestMetadataSummary,
};
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{ExecuteRequest, RequestMetadata, ToolDetails};
use grid_rpc::digests::to_wire;
use grid_rpc::metadata::REQUEST_METADATA;
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grid::{Grid, MAIN, READ_ONLY, TIGHT, refused};
use crate::queue::{action, execute, finish, register};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "BuildGrid Introspection";
const BRIEF: Duration = Duration::from_secs(1);

fn client(grid: &Grid) -> IntrospectionClient<Channel> {
    IntrospectionClient::new(grid.channel.clone())
}

async fn workers(grid: &Grid, request: ListWorkersRequest) -> Result<ListWorkersResponse, Status> {
    client(grid).list_workers(request).await.map(tonic::Response::into_inner)
}

fn named(instance: &str, part: &str) -> ListWorkersRequest {
    ListWorkersRequest {
        instance_name: instance.into(),
        worker_name: part.into(),
        ..ListWorkersRequest::default()
    }
}

/// Opens the sessions of bots that each have something to run.
async fn busy(grid: &Grid, family: &str, bots: &[&str]) -> Vec<String> {
    let mut operations = Vec::new();
    for bot in bots {
        let action = action(grid, family, bot).await;
        operations.push(execute(grid, MAIN, &action).await.0.name);
        assert_eq!(register(grid, MAIN, bot, family).await.leases.len(), 1);
    }
    operations
}

async fn place(grid: &Grid, instance: &str, operation: &str) -> Result<String, Status> {
    let request = OperationStatsRequest { instance_name: instance.into(), operation_name: operation.into() };
    client(grid).get_operation_stats(request).await.map(|answer| answer.into_inner().queue_position)
}

fn history(instance: &str, operation: &str) -> GetJobHistoryRequest {
    GetJobHistoryRequest { instance_name: instance.into(), operation_name: operation.into() }
}

/// An operation's identifier without its instance.
fn bare(name: &str) -> &str {
    name.rsplit('/').next().unwrap()
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = listing();
    rules.extend(queue());
    rules.extend(metadata());
    rules
}

fn listing() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "a worker is listed with its state and what it runs", |grid| async move {
            let action = action(&grid, "listed", "a").await;
            let (operation, _stream) = execute(&grid, MAIN, &action).await;
            let session = register(&grid, MAIN, "Listed-Bot", "listed").await;
            for seen in [grid.clone(), grid.other_replica()] {
                let found = workers(&seen, named(MAIN, "listed-b")).await.unwrap();
                assert_eq!((found.page, found.total, found.workers.len()), (1, 1, 1));
                let worker = &found.workers[0];
                assert_eq!(worker.worker_name, "Listed-Bot");
                assert_eq!(worker.session_name, bare(&session.name));
                // A bot may be told to call earlier than its session ends.
                let told = session.expire_time.unwrap().seconds;
                assert!(worker.bot_status == 1 && worker.expiry_time.unwrap().seconds >= told);
                assert_eq!(worker.action_digest, Some(to_wire(&action)));
                let operations: Vec<_> = worker.operations.iter().map(|o| &o.operation_name).collect();
                assert_eq!(operations, [&operation.name]);
            }
        }),
        accepts(SOURCE, "workers come in numbered pages by their names", |grid| async move {
            busy(&grid, "paged", &["paged-2", "paged-3", "paged-1"]).await;
            let page = |page| ListWorkersRequest { page, page_size: 2, ..named(MAIN, "paged-") };
            let mut names = Vec::new();
            for number in [0, 1, 2, 3] {
                let found = workers(&grid, page(number)).await.unwrap();
                assert_eq!((found.total, found.page, found.page_size), (3, number.max(1), 2));
                names.push(found.workers.into_iter().map(|worker| worker.worker_name).collect::<Vec<_>>());
            }
            assert_eq!(names[0], ["paged-1", "paged-2"], "the first page is 1, and no number means it");
            assert_eq!(names[1], names[0]);
            assert_eq!((&names[2][..], &names[3][..]), (&["paged-3".to_owned()][..], &[][..]));
        }),
        refuses(SOURCE, "workers of other instances are not listed", |grid| async move {
            busy(&grid, "elsewhere", &["elsewhere-bot"]).await;
            assert_eq!(workers(&grid, named(TIGHT, "elsewhere")).await.unwrap().total, 0);
        }),
        refuses(SOURCE, "negative pages are refused", |grid| async move {
            for wrong in [
                ListWorkersRequest { page: -1, ..named(MAIN, "") },
                ListWorkersRequest { page_size: -1, ..named(MAIN, "") },
            ] {
                refused(workers(&grid, wrong).await, Code::InvalidArgument);
            }
        }),
        accepts(SOURCE, "every parameter of a filter is told", |grid| async move {
            let request = GetOperationFiltersRequest { instance_name: MAIN.into() };
            let filters = client(&grid).get_operation_filters(request).await.unwrap().into_inner().filters;
            let keys: Vec<_> = filters.iter().map(|filter| filter.key.as_str()).collect();
            assert!(keys.contains(&"invocation_id") && keys.last() == Some(&"sort_order"), "{keys:?}");
            let stage = filters.iter().find(|filter| filter.key == "stage").unwrap();
            assert!(stage.values.contains(&"QUEUED".to_owned()) && stage.comparators.len() == 6);
        }),
        refuses(SOURCE, "an instance without the service is refused", |grid| async move {
            for instance in [READ_ONLY, "nowhere"] {
                refused(workers(&grid, named(instance, "")).await, Code::InvalidArgument);
                let request = GetOperationFiltersRequest { instance_name: instance.into() };
                refused(client(&grid).get_operation_filters(request).await, Code::InvalidArgument);
                refused(place(&grid, instance, "x").await, Code::InvalidArgument);
                let request = history(instance, "x");
                refused(client(&grid).get_job_history(request).await, Code::InvalidArgument);
            }
        }),
    ]
}

fn queue() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "an operation's place in the queue counts itself", |grid| async move {
            let first = action(&grid, "queued", "first").await;
            let second = action(&grid, "queued", "second").await;
            let (first, _one) = execute(&grid, MAIN, &first).await;
            let (second, _two) = execute(&grid, MAIN, &second).await;
            assert_eq!(place(&grid, MAIN, &first.name).await.unwrap(), "~1");
            assert_eq!(place(&grid, MAIN, bare(&second.name)).await.unwrap(), "~2");
            register(&grid, MAIN, "queued-bot", "queued").await;
            assert_eq!(place(&grid, MAIN, &first.name).await.unwrap(), "~0", "it runs");
            assert_eq!(place(&grid, MAIN, &second.name).await.unwrap(), "~1");
        }),
        accepts(SOURCE, "a job's history tells its leases and its end", |grid| async move {
            let action = action(&grid, "told", "a").await;
            let (operation, mut stream) = execute(&grid, MAIN, &action).await;
            let session = register(&grid, MAIN, "told-bot", "told").await;
            let again = finish(&grid, session, Code::Internal as i32, Duration::from_secs(30)).await;
            finish(&grid, again, 0, BRIEF).await;
            while stream.message().await.unwrap().is_some() {}
            let request = history(MAIN, &operation.name);
            let told = client(&grid).get_job_history(request).await.unwrap().into_inner();
            assert_eq!(told.action_digest, Some(to_wire(&action)));
            let kinds: Vec<_> =
                told.history.iter().map(grid_proto::buildgrid::JobEvent::event_type).collect();
            let expected = [
                JobEventType::Creation,
                JobEventType::NewOperation,
                JobEventType::Assignment,
                JobEventType::Retry,
                JobEventType::Assignment,
                JobEventType::Completion,
            ];
            assert_eq!(kinds, expected);
            let payload: serde_json::Value = serde_json::from_str(&told.history[5].payload).unwrap();
            assert_eq!((&payload["worker_name"], &payload["status"]), (&"told-bot".into(), &0.into()));
        }),
        refuses(
            SOURCE,
            "operations that don't exist or are another instance's are not found",
            |grid| async move {
                let action = action(&grid, "other", "a").await;
                let (operation, _stream) = execute(&grid, MAIN, &action).await;
                for (instance, name) in [
                    (MAIN, "6f1e0c38-6f1e-4c38-9f1e-6f1e0c386f1e"),
                    (MAIN, "x"),
                    (TIGHT, bare(&operation.name)),
                ] {
                    refused(place(&grid, instance, name).await, Code::NotFound);
                    refused(client(&grid).get_job_history(history(instance, name)).await, Code::NotFound);
                }
            },
        ),
    ]
}

/// Has an action asked for by a tool of this name, in this invocation.
async fn ask(grid: &Grid, family: &str, which: &str, tool: &str, invocation: &str) {
    let told = RequestMetadata {
        tool_details: Some(ToolDetails { tool_name: tool.into(), tool_version: "7.7.1".into() }),
        tool_invocation_id: invocation.into(),
        ..RequestMetadata::default()
    };
    let action = action(grid, family, which).await;
    let mut request = tonic::Request::new(ExecuteRequest {
        instance_name: MAIN.into(),
        action_digest: Some(to_wire(&action)),
        ..ExecuteRequest::default()
    });
    request.metadata_mut().insert_bin(REQUEST_METADATA, MetadataValue::from_bytes(&told.encode_to_vec()));
    let mut stream = ExecutionClient::new(grid.channel.clone()).execute(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
}

fn values(instance: &str, field: &str, pattern: &str) -> ListRequestMetadataRequest {
    ListRequestMetadataRequest {
        instance_name: instance.into(),
        field: field.into(),
        pattern: pattern.into(),
        ..ListRequestMetadataRequest::default()
    }
}

fn summary(instance: &str, field: &str, value: &str) -> GetRequestMetadataSummaryRequest {
    GetRequestMetadataSummaryRequest {
        instance_name: instance.into(),
        field: field.into(),
        value: value.into(),
    }
}

fn metadata() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "the values of request metadata are listed in numbered pages", |grid| async move {
            for (which, invocation) in [("a", "Listed-1"), ("b", "listed-2"), ("c", "listed-2"), ("d", "x")] {
                ask(&grid, "told-values", which, "lister", invocation).await;
            }
            let found = async |request| {
                let found = client(&grid.other_replica()).list_request_metadata(request).await;
                found.unwrap().into_inner()
            };
            let all = found(values(MAIN, "tool_invocation_id", "LISTED-")).await;
            assert_eq!((all.page, all.total, all.values.len()), (1, 2, 2), "large letters or small ones");
            let second = ListRequestMetadataRequest {
                page: 2,
                page_size: 1,
                ..values(MAIN, "tool_invocation_id", "listed-")
            };
            let second = found(second).await;
            assert_eq!((second.page, second.page_size, second.total), (2, 1, 2));
            assert_eq!(second.values, all.values[1..]);
        }),
        accepts(SOURCE, "operations with a value of request metadata are summed up", |grid| async move {
            for (which, invocation) in [("a", "summed-1"), ("b", "summed-1"), ("c", "summed-2")] {
                ask(&grid, "told-sums", which, "summer", invocation).await;
            }
            let session = register(&grid, MAIN, "summed-bot", "told-sums").await;
            let next = finish(&grid, session, 0, Duration::from_secs(30)).await;
            assert_eq!(next.leases.len(), 1);
            let ask = client(&grid).get_request_metadata_summary(summary(MAIN, "tool_name", "summer")).await;
            let found = ask.unwrap().into_inner();
            let invocations: Vec<_> =
                found.request_metadata.iter().map(|told| told.tool_invocation_id.as_str()).collect();
            assert_eq!(invocations, ["summed-1", "summed-2"]);
            let counts = (
                found.queued_operation_count,
                found.executing_operation_count,
                found.completed_operation_count,
            );
            assert_eq!((counts, found.total_operation_count), ((1, 1, 1), 3));
            assert!(found.first_in_queue.is_some() && found.last_completed.is_some());
            assert!(found.total_duration.is_some());
        }),
        refuses(
            SOURCE,
            "request metadata of an instance without the service is refused",
            |grid| async move {
                for instance in [READ_ONLY, "nowhere"] {
                    let list = client(&grid).list_request_metadata(values(instance, "tool_name", "")).await;
                    refused(list, Code::InvalidArgument);
                    let sum =
                        client(&grid).get_request_metadata_summary(summary(instance, "tool_name", "x")).await;
                    refused(sum, Code::InvalidArgument);
                }
            },
        ),
        refuses(SOURCE, "a field that request metadata does not have is refused", |grid| async move {
            let list = client(&grid).list_request_metadata(values(MAIN, "tool", "")).await;
            let status = refused(list, Code::InvalidArgument);
            assert!(status.message().contains("tool_invocation_id"), "{status}");
            let sum = client(&grid).get_request_metadata_summary(summary(MAIN, "", "x")).await;
            refused(sum, Code::InvalidArgument);
        }),
        refuses(SOURCE, "negative pages of request metadata are refused", |grid| async move {
            let page = ListRequestMetadataRequest { page: -1, ..values(MAIN, "tool_name", "") };
            let size = ListRequestMetadataRequest { page_size: -1, ..values(MAIN, "tool_name", "") };
            for wrong in [page, size] {
                refused(client(&grid).list_request_metadata(wrong).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "request metadata of other instances is not told", |grid| async move {
            ask(&grid, "told-apart", "a", "apart", "apart-1").await;
            let list = client(&grid).list_request_metadata(values(TIGHT, "tool_name", "apart")).await;
            assert_eq!(list.unwrap().into_inner().total, 0);
            let sum = client(&grid).get_request_metadata_summary(summary(TIGHT, "tool_name", "apart")).await;
            assert_eq!(sum.unwrap().into_inner(), RequestMetadataSummary::default());
        }),
    ]
}
