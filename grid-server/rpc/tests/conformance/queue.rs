//! The scheduler of the server under test, and clients of what is served by it.

use std::sync::Arc;
use std::time::Duration;

use grid_cas::SharedStore;
use grid_core::{Digest, InstanceName};
use grid_proto::buildgrid::introspection_server::IntrospectionServer;
use grid_proto::buildgrid::quota_server::QuotaServer;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operations_server::OperationsServer;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::execution_server::ExecutionServer;
use grid_proto::reapi::{Action, ActionResult, Command, ExecuteRequest, Platform, platform};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::bots_server::BotsServer;
use grid_proto::rwapi::{
    BotSession, CreateBotSessionRequest, Device, LeaseState, UpdateBotSessionRequest, Worker, device,
};
use grid_proto::{any, rpc};
use grid_rpc::Instances;
use grid_rpc::bots::{BotsService, Trailing};
use grid_rpc::digests::to_wire;
use grid_rpc::execution::{ExecutionInstance, ExecutionService};
use grid_rpc::introspection::IntrospectionService;
use grid_rpc::operations::OperationsService;
use grid_rpc::quota::QuotaService;
use grid_scheduler::ids::TimeOrderedIds;
use grid_scheduler::quota::Cohort;
use grid_scheduler::{Scheduler, SchedulerOptions};
use grid_scheduler_sql::{Database, SqliteQueue};
use prost::Message;
use tonic::Streaming;
use tonic::service::Routes;

use crate::grid::{Grid, MAIN, TIGHT};

/// The cohorts of bots that have quotas; the tests' bots are in neither.
pub(crate) const COHORT: &str = "cohort-a";
pub(crate) const OTHER_COHORT: &str = "cohort-b";
/// How long a bot waits for work that is there.
const WAIT: Duration = Duration::from_secs(30);

/// The instances that execute, over one scheduler.
pub(crate) fn instances(database: &Database, store: &SharedStore) -> Instances<ExecutionInstance> {
    let Database::Sqlite(pool) = database else { unreachable!("the tests' database is SQLite") };
    let queue = Arc::new(SqliteQueue::new(pool.clone()));
    let cohort = |name: &str| Cohort { name: name.into(), labels: [format!("label of {name}")].into() };
    let cohorts = [COHORT, OTHER_COHORT].map(cohort).into();
    let options = SchedulerOptions { cohorts, ..SchedulerOptions::default() };
    let scheduler = Scheduler::start(options, queue, Arc::new(TimeOrderedIds));
    let instance = |name: &'static str| {
        let instance = ExecutionInstance::new(Arc::clone(&scheduler), Arc::clone(store), None);
        (InstanceName::new(name).unwrap(), Arc::new(instance))
    };
    Instances::new("Execution", [MAIN, TIGHT].map(instance))
}

/// Adds Execution, Operations, Bots, Introspection and Quota.
pub(crate) fn serve(routes: Routes, instances: Instances<ExecutionInstance>) -> Routes {
    let schedulers = instances.iter().map(|(name, instance)| (name.clone(), Arc::clone(&instance.scheduler)));
    let quotas = QuotaService::new(Instances::new("Quota", schedulers));
    routes
        .add_service(QuotaServer::new(quotas))
        .add_service(IntrospectionServer::new(IntrospectionService::new(instances.clone())))
        .add_service(OperationsServer::new(OperationsService::new(instances.clone())))
        .add_service(ExecutionServer::new(ExecutionService::new(instances.clone())))
        .add_service(Trailing(BotsServer::new(BotsService::new(instances, None))))
}

/// Stores an action that only a worker with this value of `OSFamily` can run.
pub(crate) async fn action(grid: &Grid, family: &str, name: &str) -> Digest {
    let command = Command { arguments: vec!["echo".into(), name.into()], ..Command::default() };
    let command = grid.put(command.encode_to_vec()).await;
    let root = grid.put(Vec::new()).await;
    let property = platform::Property { name: "OSFamily".into(), value: family.into() };
    let action = Action {
        command_digest: Some(to_wire(&command)),
        input_root_digest: Some(to_wire(&root)),
        platform: Some(Platform { properties: vec![property] }),
        ..Action::default()
    };
    grid.put(action.encode_to_vec()).await
}

/// Asks for an action; gives the first news of it and the stream of what follows.
pub(crate) async fn execute(
    grid: &Grid,
    instance: &str,
    action: &Digest,
) -> (Operation, Streaming<Operation>) {
    let request = ExecuteRequest {
        instance_name: instance.into(),
        action_digest: Some(to_wire(action)),
        ..ExecuteRequest::default()
    };
    let mut client = ExecutionClient::new(grid.channel.clone());
    let mut stream = client.execute(request).await.unwrap().into_inner();
    (stream.message().await.unwrap().unwrap(), stream)
}

/// Opens a bot's session, for which work waits.
pub(crate) async fn register(grid: &Grid, instance: &str, bot_id: &str, family: &str) -> BotSession {
    let property = device::Property { key: "OSFamily".into(), value: family.into() };
    let device = Device { handle: "d".into(), properties: vec![property] };
    let worker = Worker { devices: vec![device], ..Worker::default() };
    let session =
        BotSession { bot_id: bot_id.into(), status: 1, worker: Some(worker), ..BotSession::default() };
    let mut request =
        tonic::Request::new(CreateBotSessionRequest { parent: instance.into(), bot_session: Some(session) });
    request.set_timeout(WAIT);
    BotsClient::new(grid.channel.clone()).create_bot_session(request).await.unwrap().into_inner()
}

/// Ends a bot's only lease: with this code, and with a result where that is OK.
pub(crate) async fn finish(grid: &Grid, mut session: BotSession, code: i32, wait: Duration) -> BotSession {
    let lease = &mut session.leases[0];
    lease.state = LeaseState::Completed.into();
    lease.status = Some(rpc::Status { code, ..rpc::Status::default() });
    lease.result = (code == 0).then(|| any::pack(&ActionResult::default()));
    let message = UpdateBotSessionRequest {
        name: session.name.clone(),
        bot_session: Some(session),
        ..UpdateBotSessionRequest::default()
    };
    let mut request = tonic::Request::new(message);
    request.set_timeout(wait);
    BotsClient::new(grid.channel.clone()).update_bot_session(request).await.unwrap().into_inner()
}
