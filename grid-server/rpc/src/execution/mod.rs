//! REAPI's `Execution` service: from a request to a job, and from a job's news to the client's stream.
//!
//! Neighbours: [`crate::operations`] answers for the same operations outside a stream, [`crate::bots`] brings the
//! results. The action cache is asked here and written there; nothing here decides what runs when.

pub mod instance;
pub mod metering;
mod prepare;
pub mod render;
mod stream;
mod trace;

use std::sync::Arc;

use futures::stream::BoxStream;
use grid_core::CallTrace;
use grid_proto::longrunning::Operation;
use grid_proto::reapi::execution_server::Execution;
use grid_proto::reapi::{ExecuteRequest, WaitExecutionRequest};
use tonic::{Request, Response, Status};

pub use self::instance::{ExecutionInstance, Records};
use self::render::Inline;
use crate::{Instances, operations, to_status};

/// The service.
#[derive(Clone, Debug)]
pub struct ExecutionService {
    instances: Instances<ExecutionInstance>,
}

impl ExecutionService {
    /// The service for these instances.
    #[must_use]
    pub fn new(instances: Instances<ExecutionInstance>) -> Self {
        Self { instances }
    }
}

type OperationStream = BoxStream<'static, Result<Operation, Status>>;

#[tonic::async_trait]
impl Execution for ExecutionService {
    type ExecuteStream = OperationStream;
    type WaitExecutionStream = OperationStream;

    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<OperationStream>, Status> {
        let (headers, extensions, request) = request.into_parts();
        let trace = extensions.get::<CallTrace>().cloned();
        let (name, instance) =
            self.instances.entry(&request.instance_name).await.map_err(|error| to_status(&error))?;
        let prepared = prepare::prepare(name.as_str(), instance, &headers, &request).await?;
        let watch = instance.scheduler.execute(prepared).await.map_err(|error| to_status(&error))?;
        crate::spans::note_operation(watch.operation.id.0);
        if let Some(metered) = &instance.metering {
            metered.executes(name.as_str(), &watch.operation.client, &watch.operation.id.0.to_string());
        }
        let inline = Inline::of(&request);
        Ok(Response::new(stream::watch(Arc::clone(instance), watch, inline, trace)))
    }

    async fn wait_execution(
        &self,
        request: Request<WaitExecutionRequest>,
    ) -> Result<Response<OperationStream>, Status> {
        let (_, extensions, WaitExecutionRequest { name }) = request.into_parts();
        let trace = extensions.get::<CallTrace>().cloned();
        let (instance, id) = operations::locate(&self.instances, &name).await?;
        let watch = instance.scheduler.watch(id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(stream::watch(instance, watch, Inline::default(), trace)))
    }
}
