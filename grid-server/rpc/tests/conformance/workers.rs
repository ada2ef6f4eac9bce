//! The Remote Workers API, of which Bots is all there is. How leases go is told by the tests of execution.

use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{CreateBotSessionRequest, UpdateBotSessionRequest};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::grid::{Grid, MAIN, refused};
use crate::queue::{action, execute, register};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "RWAPI Bots";
const TASKS: [&str; 2] = [
    "/google.devtools.remoteworkers.v1test2.Tasks/GetTask",
    "/google.devtools.remoteworkers.v1test2.Tasks/UpdateTaskResult",
];

/// A call of a method that no generated client has, with an empty message.
async fn call(grid: &Grid, path: &'static str) -> Result<Response<()>, Status> {
    let mut client = tonic::client::Grpc::new(grid.channel.clone());
    client.ready().await.unwrap();
    client.unary(Request::new(()), PathAndQuery::from_static(path), ProstCodec::<(), ()>::default()).await
}

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "a bot that registers is given what waits", |grid| async move {
            let action = action(&grid, "workers", "given").await;
            let _watched = execute(&grid, MAIN, &action).await;
            assert_eq!(register(&grid, MAIN, "workers-given", "workers").await.leases.len(), 1);
        }),
        refuses(SOURCE, "a registration without a session is refused", |grid| async move {
            let request = CreateBotSessionRequest { parent: MAIN.into(), bot_session: None };
            let answer = BotsClient::new(grid.channel.clone()).create_bot_session(request).await;
            refused(answer, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a report without a session is refused", |grid| async move {
            let request = UpdateBotSessionRequest { name: MAIN.into(), ..UpdateBotSessionRequest::default() };
            let answer = BotsClient::new(grid.channel.clone()).update_bot_session(request).await;
            refused(answer, Code::InvalidArgument);
        }),
        refuses(
            "RWAPI Tasks",
            "Tasks is UNIMPLEMENTED: leases carry whole actions, which clients ask for by Execution",
            |grid| async move {
                for path in TASKS {
                    refused(call(&grid, path).await, Code::Unimplemented);
                }
            },
        ),
    ]
}
