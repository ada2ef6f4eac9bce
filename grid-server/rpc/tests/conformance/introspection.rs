//! BuildGrid's Introspection service.

use std::time::Duration;

use grid_proto::buildgrid::introspection_client::IntrospectionClient;
use grid_proto::buildgrid::{
    GetJobHistoryRequest, GetOperationFiltersRequest, GetRequestMetadataSummaryRequest, JobEventType,
    ListRequestMetadataRequest, ListWorkersRequest, ListWorkersResponse, OperationStatsRequest,
};
use grid_rpc::digests::to_wire;
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
        refuses(SOURCE, "request metadata by value is not kept, and that is said", |grid| async move {
            let list = ListRequestMetadataRequest::default();
            let status = refused(client(&grid).list_request_metadata(list).await, Code::Unimplemented);
            assert!(status.message().contains("ListOperations"), "{status}");
            let summary = GetRequestMetadataSummaryRequest::default();
            refused(client(&grid).get_request_metadata_summary(summary).await, Code::Unimplemented);
        }),
    ]
}
