//! Execution: from a request to its operation's news. What bots do meanwhile is told by the tests of execution.

use std::time::Duration;

use grid_core::Digest;
use grid_proto::any;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operation::Result as Ended;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::execution_stage::Value as Stage;
use grid_proto::reapi::{
    Action, ActionResult, ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse, WaitExecutionRequest,
};
use grid_proto::rpc::{self, PreconditionFailure};
use grid_rpc::digests::to_wire;
use prost::Message as _;
use tonic::{Code, Status, Streaming};

use crate::grid::{Grid, MAIN, READ_ONLY, TIGHT, malformed_digests, refused, sha256};
use crate::queue::{action, execute, finish, register};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "REAPI Execute";
const WAIT: &str = "REAPI WaitExecution";
/// For a bot to wait for more work, where there is none.
pub(crate) const BRIEF: Duration = Duration::from_millis(100);

fn client(grid: &Grid) -> ExecutionClient<tonic::transport::Channel> {
    ExecutionClient::new(grid.channel.clone())
}

pub(crate) fn metadata(operation: &Operation) -> ExecuteOperationMetadata {
    any::unpack(operation.metadata.as_ref().unwrap()).unwrap()
}

pub(crate) fn response(operation: &Operation) -> ExecuteResponse {
    match operation.result.as_ref().unwrap() {
        Ended::Response(response) => any::unpack(response).unwrap(),
        Ended::Error(status) => panic!("{status:?}"),
    }
}

/// The last news of an operation.
pub(crate) async fn last(mut stream: Streaming<Operation>) -> Operation {
    let mut last = None;
    while let Some(news) = stream.message().await.unwrap() {
        last = Some(news);
    }
    last.unwrap()
}

/// A bot takes the action that waits for this family, and ends it well.
pub(crate) async fn run(grid: &Grid, family: &str) {
    let session = register(grid, MAIN, &format!("{family}-bot"), family).await;
    finish(grid, session, 0, BRIEF).await;
}

async fn wait(grid: &Grid, name: &str) -> Result<Streaming<Operation>, Status> {
    let request = WaitExecutionRequest { name: name.to_owned() };
    client(grid).wait_execution(request).await.map(tonic::Response::into_inner)
}

fn asking(action: &Digest) -> ExecuteRequest {
    ExecuteRequest {
        instance_name: MAIN.into(),
        action_digest: Some(to_wire(action)),
        ..ExecuteRequest::default()
    }
}

/// What the answer to a request that is refused says.
async fn refusal(grid: &Grid, request: ExecuteRequest, code: Code) -> Status {
    refused(client(grid).execute(request).await, code)
}

/// The subjects of what a refusal says to be missing.
fn missing(status: &Status) -> Vec<String> {
    let details = rpc::Status::decode(status.details()).unwrap();
    let failure: PreconditionFailure = any::unpack(&details.details[0]).unwrap();
    assert!(failure.violations.iter().all(|violation| violation.r#type == "MISSING"), "{failure:?}");
    failure.violations.into_iter().map(|violation| violation.subject).collect()
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = news();
    rules.extend(waits());
    rules.extend(refusals());
    rules
}

fn news() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "the first news says that the action waits, and which it is", |grid| async move {
            let action = action(&grid, "801", "a").await;
            let (first, _stream) = execute(&grid, MAIN, &action).await;
            let told = metadata(&first);
            assert!(!first.done && first.name.starts_with("main/"), "{}", first.name);
            assert_eq!((told.stage(), told.action_digest), (Stage::Queued, Some(to_wire(&action))));
            assert_eq!(told.digest_function, action.function().to_wire());
        }),
        accepts(SOURCE, "the last news has the result, and ends the stream", |grid| async move {
            let action = action(&grid, "802", "a").await;
            let (first, stream) = execute(&grid, MAIN, &action).await;
            run(&grid, "802").await;
            let done = last(stream).await;
            assert!(done.done && done.name == first.name);
            assert_eq!(metadata(&done).stage(), Stage::Completed);
            let response = response(&done);
            assert_eq!(response.status.unwrap_or_default().code, 0);
            let result = response.result.unwrap();
            let executed = result.execution_metadata.unwrap();
            assert_eq!((result.exit_code, executed.worker.as_str()), (0, "802-bot"));
            assert!(executed.queued_timestamp.is_some() && !response.cached_result);
        }),
        accepts(SOURCE, "an action that was asked for twice runs once, for both", |grid| async move {
            let action = action(&grid, "803", "a").await;
            let (one, first) = execute(&grid, MAIN, &action).await;
            let (two, second) = execute(&grid.other_replica(), MAIN, &action).await;
            assert_ne!(one.name, two.name);
            let session = register(&grid, MAIN, "803-bot", "803").await;
            assert!(finish(&grid, session, 0, BRIEF).await.leases.is_empty());
            for stream in [first, second] {
                assert!(response(&last(stream).await).result.is_some());
            }
        }),
        accepts("REAPI stage EXECUTING", "a client is told that its action runs", |grid| async move {
            let action = action(&grid, "804", "a").await;
            let (_, mut stream) = execute(&grid, MAIN, &action).await;
            register(&grid, MAIN, "804-bot", "804").await;
            loop {
                let news = stream.message().await.unwrap().unwrap();
                if metadata(&news).stage() == Stage::Executing {
                    let partial = metadata(&news).partial_execution_metadata.unwrap();
                    assert_eq!(partial.worker, "804-bot");
                    break;
                }
            }
        }),
        accepts(SOURCE, "a worker's own failure is not the action's: it runs again", |grid| async move {
            let action = action(&grid, "805", "a").await;
            let (_, stream) = execute(&grid, MAIN, &action).await;
            let session = register(&grid, MAIN, "805-bot", "805").await;
            let again = finish(&grid, session, Code::Internal as i32, Duration::from_secs(30)).await;
            assert_eq!(again.leases.len(), 1);
            finish(&grid, again, 0, BRIEF).await;
            assert!(response(&last(stream).await).result.is_some());
        }),
    ]
}

fn waits() -> Vec<Rule> {
    vec![
        accepts(WAIT, "a client goes on where it was, on another replica", |grid| async move {
            let action = action(&grid, "811", "a").await;
            let (first, _left) = execute(&grid, MAIN, &action).await;
            let again = wait(&grid.other_replica(), &first.name).await.unwrap();
            run(&grid, "811").await;
            let done = last(again).await;
            assert!(done.name == first.name && response(&done).result.is_some());
        }),
        accepts(WAIT, "what has ended is told at once", |grid| async move {
            let action = action(&grid, "812", "a").await;
            let (first, stream) = execute(&grid, MAIN, &action).await;
            run(&grid, "812").await;
            last(stream).await;
            let done = last(wait(&grid, &first.name).await.unwrap()).await;
            assert!(done.done && response(&done).result.is_some());
        }),
        refuses(WAIT, "an operation that nobody knows is NOT_FOUND", |grid| async move {
            let unknown = format!("{MAIN}/{}", uuid::Uuid::new_v4());
            for name in [unknown.as_str(), "main/x", "main/", "x", ""] {
                refused(wait(&grid, name).await, Code::NotFound);
            }
        }),
        refuses(WAIT, "an operation of one instance is not another's", |grid| async move {
            let action = action(&grid, "814", "a").await;
            let (operation, _stream) = execute(&grid, MAIN, &action).await;
            let elsewhere = operation.name.replace("main/", "tight/");
            refused(wait(&grid, &elsewhere).await, Code::NotFound);
        }),
    ]
}

fn refusals() -> Vec<Rule> {
    vec![
        refuses(SOURCE, "an action that is missing is named as MISSING", |grid| async move {
            let absent = sha256(b"absent action 821");
            let status = refusal(&grid, asking(&absent), Code::FailedPrecondition).await;
            assert_eq!(missing(&status), [format!("blobs/{absent}")]);
        }),
        refuses(SOURCE, "a command and inputs that are missing are named as MISSING", |grid| async move {
            let (command, root) = (sha256(b"absent command 822"), sha256(b"absent root 822"));
            let action = Action {
                command_digest: Some(to_wire(&command)),
                input_root_digest: Some(to_wire(&root)),
                ..Action::default()
            };
            let action = grid.put(action.encode_to_vec()).await;
            let status = refusal(&grid, asking(&action), Code::FailedPrecondition).await;
            let mut named = missing(&status);
            named.sort();
            let mut expected = [format!("blobs/{command}"), format!("blobs/{root}")];
            expected.sort();
            assert_eq!(named, expected);
        }),
        refuses(
            "REAPI Digest",
            "action digests that are unset or malformed are refused",
            |grid| async move {
                let malformed = malformed_digests().into_iter().map(Some);
                for action_digest in malformed.chain([None]) {
                    let request = ExecuteRequest { action_digest, ..asking(&sha256(b"")) };
                    refusal(&grid, request, Code::InvalidArgument).await;
                }
            },
        ),
        refuses(SOURCE, "a blob that is no action is refused", |grid| async move {
            let blob = grid.put(&b"\xff\xff not an action 824"[..]).await;
            refusal(&grid, asking(&blob), Code::InvalidArgument).await;
        }),
        refuses(SOURCE, "an action without a command is refused", |grid| async move {
            let root = grid.put(Vec::new()).await;
            let action = Action { input_root_digest: Some(to_wire(&root)), ..Action::default() };
            let action = grid.put(action.encode_to_vec()).await;
            refusal(&grid, asking(&action), Code::InvalidArgument).await;
        }),
        refuses(SOURCE, "a timeout that is negative or too long is refused", |grid| async move {
            let root = grid.put(Vec::new()).await;
            for seconds in [-1, i64::MAX, 400 * 24 * 3600] {
                let action = Action {
                    command_digest: Some(to_wire(&root)),
                    input_root_digest: Some(to_wire(&root)),
                    timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
                    ..Action::default()
                };
                let action = grid.put(action.encode_to_vec()).await;
                refusal(&grid, asking(&action), Code::InvalidArgument).await;
            }
        }),
        refuses("REAPI instance_name", "an instance that does not exist is refused", |grid| async move {
            let action = action(&grid, "827", "a").await;
            let request = ExecuteRequest { instance_name: "nope".into(), ..asking(&action) };
            refusal(&grid, request, Code::InvalidArgument).await;
        }),
        refuses("REAPI instance_name", "an instance that executes nothing is refused", |grid| async move {
            let action = action(&grid, "828", "a").await;
            let request = ExecuteRequest { instance_name: READ_ONLY.into(), ..asking(&action) };
            refusal(&grid, request, Code::InvalidArgument).await;
        }),
        refuses("REAPI digest_function", "a function that does not exist is refused", |grid| async move {
            let action = action(&grid, "829", "a").await;
            let request = ExecuteRequest { digest_function: 99, ..asking(&action) };
            refusal(&grid, request, Code::InvalidArgument).await;
        }),
        refuses(
            "REAPI Execute",
            "that an action can't be run is told in its response, not as an error of the call",
            |grid| async move {
                let action = action(&grid, "830", "a").await;
                let (_, stream) = execute(&grid, TIGHT, &action).await;
                let session = register(&grid, TIGHT, "830-bot", "830").await;
                finish(&grid, session, Code::FailedPrecondition as i32, BRIEF).await;
                let response = response(&last(stream).await);
                let status = response.status.unwrap();
                assert_eq!(status.code, Code::FailedPrecondition as i32, "{status:?}");
                assert_eq!(response.result.unwrap_or_default(), ActionResult::default());
            },
        ),
    ]
}
