//! The Fleet service: pools, demand, drains, bots, jobs, and why a job waits.
//!
//! One scheduler speaks for the whole server, and calls name no instance. Whoever may call it is settled before it
//! is reached ([`crate::auth`]). Messages are made in [`wire`] and [`history`]; streams in [`watch`].

mod history;
mod listing;
mod watch;
mod wire;

use std::sync::Arc;

use futures::stream::BoxStream;
use grid_core::Timestamp;
use grid_proto::fleet::fleet_server::Fleet;
use grid_proto::fleet::list_pools_response::DeclaredPool;
use grid_proto::fleet::{
    DeclarePoolsRequest, DeclarePoolsResponse, Demand, DemandRequest, DrainRequest, DrainResponse,
    DrainStatus, Explanation, GetDrainRequest, ListBotsRequest, ListBotsResponse, ListDrainsRequest,
    ListDrainsResponse, ListJobsRequest, ListJobsResponse, ListPoolsRequest, ListPoolsResponse, SizeClasses,
    SizeClassesRequest, UndrainRequest, UndrainResponse, WatchDemandRequest, WhyRequest,
};
use grid_scheduler::Scheduler;
use grid_scheduler::fleet::{Drain, DrainProgress, View};
use grid_scheduler::ids::OperationId;
use tonic::{Request, Response, Status};

use crate::RpcError;
use crate::error::status;

pub(crate) use listing::leases;

/// The service.
#[derive(Clone, Debug)]
pub struct FleetService {
    scheduler: Arc<Scheduler>,
}

impl FleetService {
    /// The service over a scheduler.
    #[must_use]
    pub const fn new(scheduler: Arc<Scheduler>) -> Self {
        Self { scheduler }
    }

    async fn fleet(&self) -> Result<Arc<View>, Status> {
        self.scheduler.fleet().await.map_err(status)
    }
}

#[tonic::async_trait]
impl Fleet for FleetService {
    type WatchDemandStream = BoxStream<'static, Result<Demand, Status>>;
    type WatchDrainStream = BoxStream<'static, Result<DrainStatus, Status>>;

    async fn declare_pools(
        &self,
        request: Request<DeclarePoolsRequest>,
    ) -> Result<Response<DeclarePoolsResponse>, Status> {
        let declaration = wire::declaration(request.into_inner());
        let revision = self.scheduler.declare(&declaration).await.map_err(status)?;
        Ok(Response::new(DeclarePoolsResponse { revision }))
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsRequest>,
    ) -> Result<Response<ListPoolsResponse>, Status> {
        let owner = request.into_inner().owner;
        let fleet = self.fleet().await?;
        let of = fleet.declarations.iter().filter(|d| owner.is_empty() || d.owner == owner);
        let mut pools: Vec<DeclaredPool> = of.flat_map(wire::declared).collect();
        pools.sort_by(|a, b| wire::pool_name(a).cmp(wire::pool_name(b)));
        Ok(Response::new(ListPoolsResponse { pools }))
    }

    async fn get_demand(&self, request: Request<DemandRequest>) -> Result<Response<Demand>, Status> {
        let demand = self.scheduler.demand().await.map_err(status)?;
        Ok(Response::new(wire::demand(&demand, &request.into_inner().pools)))
    }

    async fn watch_demand(
        &self,
        request: Request<WatchDemandRequest>,
    ) -> Result<Response<Self::WatchDemandStream>, Status> {
        let request = request.into_inner();
        let interval = wire::duration("min_interval", request.min_interval).map_err(status)?;
        let pools = request.demand.unwrap_or_default().pools;
        Ok(Response::new(watch::demand(Arc::clone(&self.scheduler), pools, interval)))
    }

    async fn list_bots(
        &self,
        request: Request<ListBotsRequest>,
    ) -> Result<Response<ListBotsResponse>, Status> {
        listing::bots(&self.scheduler, &request.into_inner()).await.map(Response::new)
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let order = wire::order(request.into_inner()).map_err(status)?;
        let drains = self.scheduler.drain(&order).await.map_err(status)?;
        let fleet = self.fleet().await?;
        let progress = drains.iter().map(|drain| drain.progress(&fleet.bots));
        Ok(Response::new(DrainResponse { drains: progress.map(|drain| wire::drain(&drain)).collect() }))
    }

    async fn undrain(&self, request: Request<UndrainRequest>) -> Result<Response<UndrainResponse>, Status> {
        let targets = wire::targets(request.into_inner().targets).map_err(status)?;
        self.scheduler.undrain(&targets).await.map_err(status)?;
        Ok(Response::new(UndrainResponse {}))
    }

    async fn get_drain(&self, request: Request<GetDrainRequest>) -> Result<Response<DrainStatus>, Status> {
        let target = wire::target("target", request.into_inner().target).map_err(status)?;
        let fleet = self.fleet().await?;
        match find(&fleet, &target) {
            Some(drain) => Ok(Response::new(wire::drain(&drain))),
            None => Err(status(RpcError::NotFound("a drain of this target".to_owned()))),
        }
    }

    async fn watch_drain(
        &self,
        request: Request<GetDrainRequest>,
    ) -> Result<Response<Self::WatchDrainStream>, Status> {
        let target = wire::target("target", request.into_inner().target).map_err(status)?;
        let fleet = self.fleet().await?;
        match find(&fleet, &target) {
            Some(first) => Ok(Response::new(watch::drain(Arc::clone(&self.scheduler), target, first))),
            None => Err(status(RpcError::NotFound("a drain of this target".to_owned()))),
        }
    }

    async fn list_drains(
        &self,
        request: Request<ListDrainsRequest>,
    ) -> Result<Response<ListDrainsResponse>, Status> {
        let request = request.into_inner();
        let fleet = self.fleet().await?;
        let key = |drain: &Drain| listing::target_key(&drain.target);
        let (drains, next_page_token) =
            listing::page(&fleet.drains, key, request.page_size, &request.page_token).map_err(status)?;
        let drains = drains.into_iter().map(|drain| wire::drain(&drain.progress(&fleet.bots))).collect();
        Ok(Response::new(ListDrainsResponse { drains, next_page_token }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        listing::jobs(&self.scheduler, &request.into_inner()).await.map(Response::new)
    }

    async fn get_size_classes(
        &self,
        request: Request<SizeClassesRequest>,
    ) -> Result<Response<SizeClasses>, Status> {
        let within = wire::duration("within", request.into_inner().within).map_err(status)?;
        let classes = self.scheduler.size_classes(within.unwrap_or(history::WITHIN)).await.map_err(status)?;
        Ok(Response::new(SizeClasses { classes: classes.iter().map(history::size_class).collect() }))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<Explanation>, Status> {
        let name = request.into_inner().operation;
        let id = name.rsplit('/').next().and_then(|id| id.parse().ok()).map(OperationId);
        let id = id.ok_or_else(|| status(RpcError::NotFound(format!("operation {name:?}"))))?;
        let why = self.scheduler.why(id).await.map_err(status)?;
        Ok(Response::new(wire::why(name, &why)))
    }
}

fn find(fleet: &View, target: &grid_scheduler::fleet::DrainTarget) -> Option<DrainProgress> {
    fleet.drains.iter().find(|drain| drain.target == *target).map(|drain| drain.progress(&fleet.bots))
}

/// The time from `earlier` to `now` as messages carry it; `None` where there is no earlier moment.
fn age(now: Timestamp, earlier: Option<Timestamp>) -> Option<prost_types::Duration> {
    earlier.and_then(|earlier| prost_types::Duration::try_from(now.since(earlier)).ok())
}
