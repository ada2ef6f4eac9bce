//! Operations: looked up, listed, waited for, cancelled and forgotten.

use grid_proto::longrunning::operation::Result as Ended;
use grid_proto::longrunning::operations_client::OperationsClient;
use grid_proto::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
};
use grid_proto::reapi::execution_stage::Value as Stage;
use tonic::{Code, Status};

use crate::execution::{last, metadata, response, run};
use crate::grid::{Grid, MAIN, refused};
use crate::queue::{action, execute, register};
use crate::rule::{Rule, accepts, refuses};

const GET: &str = "longrunning GetOperation";
const LIST: &str = "longrunning ListOperations";
const FILTER: &str = "BuildGrid operation filters";
const WAIT: &str = "longrunning WaitOperation";
const CANCEL: &str = "longrunning CancelOperation";
const DELETE: &str = "longrunning DeleteOperation";

fn client(grid: &Grid) -> OperationsClient<tonic::transport::Channel> {
    OperationsClient::new(grid.channel.clone())
}

async fn get(grid: &Grid, name: &str) -> Result<Operation, Status> {
    let request = GetOperationRequest { name: name.to_owned() };
    client(grid).get_operation(request).await.map(tonic::Response::into_inner)
}

async fn cancel(grid: &Grid, name: &str) -> Result<(), Status> {
    let request = CancelOperationRequest { name: name.to_owned() };
    client(grid).cancel_operation(request).await.map(tonic::Response::into_inner)
}

async fn delete(grid: &Grid, name: &str) -> Result<(), Status> {
    let request = DeleteOperationRequest { name: name.to_owned() };
    client(grid).delete_operation(request).await.map(tonic::Response::into_inner)
}

async fn wait(grid: &Grid, name: &str, seconds: i64) -> Result<Operation, Status> {
    let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = WaitOperationRequest { name: name.to_owned(), timeout };
    client(grid).wait_operation(request).await.map(tonic::Response::into_inner)
}

fn of(filter: &str) -> ListOperationsRequest {
    ListOperationsRequest { name: MAIN.into(), filter: filter.into(), ..ListOperationsRequest::default() }
}

async fn list(grid: &Grid, request: ListOperationsRequest) -> Result<ListOperationsResponse, Status> {
    client(grid).list_operations(request).await.map(tonic::Response::into_inner)
}

fn names(page: &ListOperationsResponse) -> Vec<String> {
    page.operations.iter().map(|operation| operation.name.clone()).collect()
}

/// The names of as many operations that wait, for this family.
async fn waiting(grid: &Grid, family: &str, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for number in 0..count {
        let action = action(grid, family, &number.to_string()).await;
        names.push(execute(grid, MAIN, &action).await.0.name);
    }
    names
}

/// A name that no operation has.
fn unknown() -> Vec<String> {
    let names = ["main/x", "main/", "x", "", "nowhere/x"].map(str::to_owned);
    names.into_iter().chain([format!("{MAIN}/{}", uuid::Uuid::new_v4())]).collect()
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = looks();
    rules.extend(lists());
    rules.extend(ends());
    rules
}

fn looks() -> Vec<Rule> {
    vec![
        accepts(
            GET,
            "an operation is the one that its client was told of, on any replica",
            |grid| async move {
                let action = action(&grid, "901", "a").await;
                let (told, _stream) = execute(&grid, MAIN, &action).await;
                for replica in [grid.clone(), grid.other_replica()] {
                    let found = get(&replica, &told.name).await.unwrap();
                    assert_eq!((found.name.as_str(), found.done), (told.name.as_str(), false));
                    assert_eq!(metadata(&found), metadata(&told));
                }
            },
        ),
        accepts("BuildGrid names", "an operation is found by its identifier alone", |grid| async move {
            let name = waiting(&grid, "902", 1).await.remove(0);
            let (_, bare) = name.rsplit_once('/').unwrap();
            assert_eq!(get(&grid, bare).await.unwrap().name, name);
        }),
        refuses(GET, "an operation that nobody knows is NOT_FOUND", |grid| async move {
            for name in unknown().iter().filter(|name| !name.starts_with("nowhere")) {
                refused(get(&grid, name).await, Code::NotFound);
            }
        }),
        refuses(GET, "an operation of one instance is not another's", |grid| async move {
            let name = waiting(&grid, "904", 1).await.remove(0);
            refused(get(&grid, &name.replace("main/", "tight/")).await, Code::NotFound);
        }),
        accepts(WAIT, "whoever waits hears of the end", |grid| async move {
            let name = waiting(&grid, "905", 1).await.remove(0);
            let (done, ()) = tokio::join!(wait(&grid, &name, 30), run(&grid, "905"));
            let done = done.unwrap();
            assert!(done.done && response(&done).result.is_some());
        }),
        accepts(WAIT, "after its time the call tells how things stand", |grid| async move {
            let name = waiting(&grid, "906", 1).await.remove(0);
            let found = wait(&grid, &name, 0).await.unwrap();
            assert!(!found.done && metadata(&found).stage() == Stage::Queued);
        }),
        refuses(WAIT, "a negative time is refused", |grid| async move {
            let name = waiting(&grid, "907", 1).await.remove(0);
            refused(wait(&grid, &name, -1).await, Code::InvalidArgument);
        }),
        refuses(WAIT, "an operation that nobody knows is NOT_FOUND", |grid| async move {
            refused(wait(&grid, &unknown()[5], 0).await, Code::NotFound);
        }),
    ]
}

fn lists() -> Vec<Rule> {
    vec![
        accepts(
            LIST,
            "operations come in the order in which they were queued, in pages",
            |grid| async move {
                let names = waiting(&grid, "911", 5).await;
                let (mut seen, mut page_token) = (Vec::new(), String::new());
                loop {
                    let ask =
                        ListOperationsRequest { page_size: 2, page_token, ..of("platform = OSFamily:911") };
                    let page = list(&grid, ask).await.unwrap();
                    assert!(page.operations.len() <= 2);
                    seen.extend(self::names(&page));
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        break;
                    }
                }
                assert_eq!(seen, names);
            },
        ),
        accepts(LIST, "a token goes on after its page on another replica", |grid| async move {
            let names = waiting(&grid, "912", 3).await;
            let ask = ListOperationsRequest { page_size: 2, ..of("platform = OSFamily:912") };
            let first = list(&grid, ask.clone()).await.unwrap();
            let ask = ListOperationsRequest { page_token: first.next_page_token, ..ask };
            assert_eq!(self::names(&list(&grid.other_replica(), ask).await.unwrap()), names[2..]);
        }),
        accepts(FILTER, "operations are found by what they are, and sorted", |grid| async move {
            let mut names = waiting(&grid, "913", 3).await;
            register(&grid, MAIN, "913-bot", "913").await;
            let found = async |filter: &str| self::names(&list(&grid, of(filter)).await.unwrap());
            assert_eq!(found("platform = OSFamily:913 & stage = EXECUTING").await, names[..1]);
            assert_eq!(found("stage = queued & platform = OSFamily:913").await, names[1..]);
            names.reverse();
            assert_eq!(found("platform = OSFamily:913 & sort_order = queued_time(desc)").await, names);
            assert!(found("platform = OSFamily:9130").await.is_empty());
        }),
        refuses(FILTER, "a filter that can't be read is refused, with the place", |grid| async move {
            for (filter, place) in [("stage ~ x", "position 7"), ("planet = mars", "position 1")] {
                let status = refused(list(&grid, of(filter)).await, Code::InvalidArgument);
                assert!(status.message().contains(place), "{status:?}");
            }
        }),
        refuses(LIST, "a page's size that is negative is refused", |grid| async move {
            let ask = ListOperationsRequest { page_size: -1, ..of("") };
            refused(list(&grid, ask).await, Code::InvalidArgument);
        }),
        refuses(LIST, "a token that is none is refused", |grid| async move {
            for page_token in ["x", "bm8", "//"] {
                let ask = ListOperationsRequest { page_token: page_token.into(), ..of("") };
                refused(list(&grid, ask).await, Code::InvalidArgument);
            }
        }),
        refuses("REAPI instance_name", "an instance that does not exist is refused", |grid| async move {
            let ask = ListOperationsRequest { name: "nope".into(), ..of("") };
            refused(list(&grid, ask).await, Code::InvalidArgument);
        }),
    ]
}

fn ends() -> Vec<Rule> {
    vec![
        accepts(CANCEL, "the last client to cancel ends the work, and each is told", |grid| async move {
            let action = action(&grid, "921", "a").await;
            let (one, first) = execute(&grid, MAIN, &action).await;
            let (two, second) = execute(&grid, MAIN, &action).await;
            cancel(&grid, &one.name).await.unwrap();
            let Some(Ended::Error(status)) = last(first).await.result else { panic!("a result") };
            assert_eq!(status.code, Code::Cancelled as i32);
            assert!(!get(&grid, &two.name).await.unwrap().done, "another waits");
            cancel(&grid.other_replica(), &two.name).await.unwrap();
            assert!(last(second).await.done);
        }),
        accepts(CANCEL, "who cancels twice is not told off", |grid| async move {
            let name = waiting(&grid, "922", 1).await.remove(0);
            cancel(&grid, &name).await.unwrap();
            cancel(&grid, &name).await.unwrap();
        }),
        refuses(CANCEL, "an operation that nobody knows is NOT_FOUND", |grid| async move {
            refused(cancel(&grid, &unknown()[5]).await, Code::NotFound);
        }),
        accepts(DELETE, "an operation that has ended can be forgotten", |grid| async move {
            let action = action(&grid, "924", "a").await;
            let (operation, stream) = execute(&grid, MAIN, &action).await;
            run(&grid, "924").await;
            last(stream).await;
            delete(&grid, &operation.name).await.unwrap();
            refused(get(&grid, &operation.name).await, Code::NotFound);
        }),
        refuses(DELETE, "an operation that nobody knows is NOT_FOUND", |grid| async move {
            refused(delete(&grid, &unknown()[5]).await, Code::NotFound);
        }),
    ]
}
