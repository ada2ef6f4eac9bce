//! `google.longrunning.Operations`: look up, list, wait for, cancel and forget operations.
//!
//! Names are `INSTANCE/UUID`; the bare UUID works where it is found in one of the instances that its caller may use, as
//! BuildGrid's older calls have it.

use std::sync::Arc;
use std::time::Duration;

use grid_core::InstanceName;
use grid_proto::longrunning::operations_server::Operations;
use grid_proto::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
};
use grid_scheduler::SchedulerError;
use grid_scheduler::ids::OperationId;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::execution::{ExecutionInstance, render};
use crate::transport::place;
use crate::{Instances, RpcError, metadata, to_status};

mod listing;

/// How long `WaitOperation` waits where its request and its deadline say nothing.
const DEFAULT_WAIT: Duration = Duration::from_mins(10);

/// The service.
#[derive(Clone, Debug)]
pub struct OperationsService {
    instances: Instances<ExecutionInstance>,
}

impl OperationsService {
    /// The service for these instances.
    #[must_use]
    pub fn new(instances: Instances<ExecutionInstance>) -> Self {
        Self { instances }
    }
}

/// The instance and the identifier that an operation's name means. One that names nothing here is NOT_FOUND.
pub(crate) async fn locate(
    instances: &Instances<ExecutionInstance>,
    name: &str,
) -> Result<(Arc<ExecutionInstance>, OperationId), Status> {
    let unknown = || to_status(&RpcError::NotFound(format!("operation {name:?}")));
    let (instance, id) = name.rsplit_once('/').unwrap_or(("", name));
    let id = OperationId(id.parse::<Uuid>().map_err(|_| unknown())?);
    crate::spans::note_operation(id.0);
    if name.contains('/') {
        let (configured, found) = instances.entry(instance).await.map_err(|error| to_status(&error))?;
        // Instances may share a scheduler, and a caller of one has no business in another.
        let here = belongs(found, configured, id).await?;
        return if here { Ok((Arc::clone(found), id)) } else { Err(unknown()) };
    }
    // A bare identifier is looked for where its caller may look, and nowhere else.
    let (mut refused, mut looked) = (None, false);
    for (configured, candidate) in instances.iter() {
        match crate::auth::permit(configured.as_str()).await {
            Err(error) => refused = Some(error),
            Ok(()) if belongs(candidate, configured, id).await? => {
                crate::auth::note_instance(configured);
                return Ok((Arc::clone(candidate), id));
            }
            Ok(()) => looked = true,
        }
    }
    Err(refused.filter(|_| !looked).map_or_else(unknown, |error| to_status(&error)))
}

/// Whether an operation is this instance's.
async fn belongs(instance: &ExecutionInstance, name: &InstanceName, id: OperationId) -> Result<bool, Status> {
    match instance.scheduler.operation(id).await {
        Ok((operation, _)) => Ok(operation.instance == name.as_str()),
        Err(SchedulerError::OperationNotFound(_)) => Ok(false),
        Err(error) => Err(to_status(&error)),
    }
}

impl OperationsService {
    async fn find(&self, name: &str) -> Result<(Arc<ExecutionInstance>, OperationId), Status> {
        locate(&self.instances, name).await
    }

    async fn read(&self, name: &str) -> Result<Response<Operation>, Status> {
        let (instance, id) = self.find(name).await?;
        let (operation, job) = instance.scheduler.operation(id).await.map_err(|error| to_status(&error))?;
        let browser = instance.action_browser_url.as_deref();
        let mut answer = Response::new(render::operation(&operation, &job, operation.cancelled, browser));
        metadata::tell(&operation, &job.spec.action_digest, answer.metadata_mut());
        Ok(answer)
    }
}

#[tonic::async_trait]
impl Operations for OperationsService {
    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let request = request.into_inner();
        let (name, instance) =
            self.instances.entry(&request.name).await.map_err(|error| to_status(&error))?;
        let query = listing::query(name.as_str(), instance.max_list_page_size, &request)
            .map_err(|error| to_status(&error))?;
        let found = instance.scheduler.list(&query).await.map_err(|error| to_status(&error))?;
        let next_page_token = listing::next_page_token(&request, &query, &found);
        let browser = instance.action_browser_url.as_deref();
        let operations = found.iter().map(|(o, job)| render::listed(o, job, browser)).collect();
        Ok(Response::new(ListOperationsResponse { operations, next_page_token, unreachable: Vec::new() }))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        self.read(&request.into_inner().name).await
    }

    async fn delete_operation(
        &self,
        request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let (instance, id) = self.find(&request.into_inner().name).await?;
        instance.scheduler.delete(id).await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let (instance, id) = self.find(&request.into_inner().name).await?;
        instance.scheduler.cancel(id).await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let request = request.into_inner();
        let wait = match request.timeout.map(Duration::try_from) {
            None => DEFAULT_WAIT,
            Some(Ok(wait)) => wait.min(DEFAULT_WAIT),
            Some(Err(_)) => return Err(to_status(&RpcError::field("timeout", "is not a positive duration"))),
        };
        let (instance, id) = self.find(&request.name).await?;
        let deadline = Instant::now() + wait;
        let mut watch = instance.scheduler.watch(id).await.map_err(|error| to_status(&error))?;
        loop {
            let view = watch.view();
            if !view.is_final() {
                place::leave();
            }
            if view.is_final() || timeout_at(deadline, watch.changed()).await.is_err() {
                let browser = instance.action_browser_url.as_deref();
                let operation = render::operation(&watch.operation, &view.job, view.cancelled, browser);
                return Ok(Response::new(operation));
            }
        }
    }
}
