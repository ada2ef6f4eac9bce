//! BuildGrid's Introspection service: an instance's bots, filters, queue positions and the history of its jobs.
//!
//! It reads what [`crate::fleet`] tells operators, but by instance and for whoever may use it: bots of other instances
//! and operations of other instances' clients are not shown. [`filters`], [`history`], [`metadata`] and [`workers`] make the
//! messages.

mod filters;
mod history;
mod metadata;
mod workers;

use grid_proto::buildgrid::introspection_server::Introspection;
use grid_proto::buildgrid::{
    GetJobHistoryRequest, GetOperationFiltersRequest, GetRequestMetadataSummaryRequest, JobHistory,
    ListRequestMetadataRequest, ListRequestMetadataResponse, ListWorkersRequest, ListWorkersResponse,
    OperationFilters, OperationStats, OperationStatsRequest, RequestMetadataSummary,
};
use grid_scheduler::job::Stage;
use tonic::{Request, Response, Status};

use crate::error::status;
use crate::execution::ExecutionInstance;
use crate::operations::locate;
use crate::{Instances, RpcError, digests};

/// The service.
#[derive(Clone, Debug)]
pub struct IntrospectionService {
    instances: Instances<ExecutionInstance>,
}

impl IntrospectionService {
    /// The service for these instances.
    #[must_use]
    pub const fn new(instances: Instances<ExecutionInstance>) -> Self {
        Self { instances }
    }
}

/// The full name of an operation that a request names beside its instance, or with it.
fn operation(instance: &str, name: &str) -> String {
    if instance.is_empty() || name.contains('/') { name.to_owned() } else { format!("{instance}/{name}") }
}

/// Which page is asked for. The first is 1, and no number means it.
struct Page {
    number: u32,
    size: u32,
}

impl Page {
    /// Entries a page, at most and where the request says nothing (BuildGrid's number).
    const MOST: u32 = 1_000;

    fn of(number: i32, size: i32) -> Result<Self, Status> {
        let read = |field: &str, value: i32| {
            u32::try_from(value).map_err(|_| status(RpcError::field(field, "is negative")))
        };
        let size = match read("page_size", size)? {
            0 => Self::MOST,
            size => size.min(Self::MOST),
        };
        Ok(Self { number: read("page", number)?.max(1), size })
    }

    /// How many entries the pages before it have.
    fn skipped(&self) -> u64 {
        u64::from(self.number - 1) * u64::from(self.size)
    }
}

/// Up to where BuildGrid counts who waits; its clients know the words.
const COUNTED: u64 = 300;

fn told(place: u64) -> String {
    if place < COUNTED { format!("~{place}") } else { format!("{COUNTED}+") }
}

#[tonic::async_trait]
impl Introspection for IntrospectionService {
    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let (name, instance) = self.instances.entry(&request.instance_name).await.map_err(status)?;
        workers::list(name, instance, &request).await.map(Response::new)
    }

    async fn get_operation_filters(
        &self,
        request: Request<GetOperationFiltersRequest>,
    ) -> Result<Response<OperationFilters>, Status> {
        self.instances.get(&request.into_inner().instance_name).await.map_err(status)?;
        Ok(Response::new(filters::all()))
    }

    async fn get_operation_stats(
        &self,
        request: Request<OperationStatsRequest>,
    ) -> Result<Response<OperationStats>, Status> {
        let request = request.into_inner();
        self.instances.get(&request.instance_name).await.map_err(status)?;
        let name = operation(&request.instance_name, &request.operation_name);
        let (instance, id) = locate(&self.instances, &name).await?;
        let why = instance.scheduler.why(id).await.map_err(status)?;
        // BuildGrid counts the job itself.
        let place = if why.job.state.stage == Stage::Queued { why.position.saturating_add(1) } else { 0 };
        Ok(Response::new(OperationStats { queue_position: told(place) }))
    }

    async fn get_job_history(
        &self,
        request: Request<GetJobHistoryRequest>,
    ) -> Result<Response<JobHistory>, Status> {
        let request = request.into_inner();
        self.instances.get(&request.instance_name).await.map_err(status)?;
        let name = operation(&request.instance_name, &request.operation_name);
        let (instance, id) = locate(&self.instances, &name).await?;
        let why = instance.scheduler.why(id).await.map_err(status)?;
        Ok(Response::new(JobHistory {
            action_digest: Some(digests::to_wire(&why.job.spec.action_digest)),
            history: history::events(&why),
        }))
    }

    async fn list_request_metadata(
        &self,
        request: Request<ListRequestMetadataRequest>,
    ) -> Result<Response<ListRequestMetadataResponse>, Status> {
        let request = request.into_inner();
        let (name, instance) = self.instances.entry(&request.instance_name).await.map_err(status)?;
        metadata::list(name.as_str(), instance, request).await.map(Response::new)
    }

    async fn get_request_metadata_summary(
        &self,
        request: Request<GetRequestMetadataSummaryRequest>,
    ) -> Result<Response<RequestMetadataSummary>, Status> {
        let request = request.into_inner();
        let (name, instance) = self.instances.entry(&request.instance_name).await.map_err(status)?;
        metadata::summary(name.as_str(), instance, request).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn places_are_counted_as_far_as_buildgrid_does() {
        let told = [0, 1, 299, 300, 5_000].map(super::told);
        assert_eq!(told, ["~0", "~1", "~299", "300+", "300+"]);
    }
}
