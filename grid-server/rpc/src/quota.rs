//! BuildGrid's Quota service: how many leases an instance is due, and may hold, in a cohort of bots.
//!
//! The scheduler keeps quotas and holds to them. Instances that the server does not have are refused, as everywhere; who
//! may call is settled by [`crate::auth`]: with a token for administrators they alone, else who may call this in the
//! instance that is named.

use grid_proto::buildgrid::quota_server::Quota;
use grid_proto::buildgrid::{
    DeleteInstanceQuotaRequest, DeleteInstanceQuotaResponse, GetAllInstanceQuotaRequest,
    GetAllInstanceQuotaResponse, GetInstanceQuotaRequest, GetInstanceQuotaResponse, InstanceQuota,
    PutInstanceQuotaRequest, PutInstanceQuotaResponse,
};
use grid_scheduler::Scheduler;
use grid_scheduler::quota::{self, Share};
use tonic::{Request, Response, Status};

use crate::error::status;
use crate::{Instances, RpcError};

/// The service.
#[derive(Clone, Debug)]
pub struct QuotaService {
    instances: Instances<Scheduler>,
}

impl QuotaService {
    /// The service for these instances, each with the scheduler that holds to its quotas.
    #[must_use]
    pub const fn new(instances: Instances<Scheduler>) -> Self {
        Self { instances }
    }

    /// The quotas of an instance, by cohort.
    async fn shares(&self, instance: &str) -> Result<Vec<Share>, Status> {
        let scheduler = self.instances.get(instance).await.map_err(status)?;
        let mut shares = scheduler.shares().await.map_err(status)?;
        shares.retain(|share| share.quota.instance == instance);
        shares.sort_by(|a, b| a.quota.cohort.cmp(&b.quota.cohort));
        Ok(shares)
    }
}

fn wire(share: Share) -> InstanceQuota {
    InstanceQuota {
        instance_name: share.quota.instance,
        bot_cohort: share.quota.cohort,
        min_quota: share.quota.min.into(),
        max_quota: share.quota.max.into(),
        current_usage: share.used.into(),
    }
}

fn slots(field: &str, value: i64) -> Result<u32, RpcError> {
    let expected = || RpcError::field(field, format!("is {value}; expected 0 to {}", u32::MAX));
    u32::try_from(value).map_err(|_| expected())
}

#[tonic::async_trait]
impl Quota for QuotaService {
    async fn get_instance_quota(
        &self,
        request: Request<GetInstanceQuotaRequest>,
    ) -> Result<Response<GetInstanceQuotaResponse>, Status> {
        let GetInstanceQuotaRequest { instance_name, bot_cohort } = request.into_inner();
        let shares = self.shares(&instance_name).await?;
        let share = shares.into_iter().find(|share| share.quota.cohort == bot_cohort).ok_or_else(|| {
            status(RpcError::NotFound(format!(
                "quota of instance {instance_name:?} in cohort {bot_cohort:?}"
            )))
        })?;
        Ok(Response::new(GetInstanceQuotaResponse { instance_quota: Some(wire(share)) }))
    }

    async fn put_instance_quota(
        &self,
        request: Request<PutInstanceQuotaRequest>,
    ) -> Result<Response<PutInstanceQuotaResponse>, Status> {
        let request = request.into_inner();
        let scheduler = self.instances.get(&request.instance_name).await.map_err(status)?;
        let quota = quota::Quota {
            cohort: request.bot_cohort,
            instance: request.instance_name,
            min: slots("min_quota", request.min_quota).map_err(status)?,
            max: slots("max_quota", request.max_quota).map_err(status)?,
        };
        let set = format!("{} to {}", quota.min, quota.max);
        let (instance, cohort) = (quota.instance.clone(), quota.cohort.clone());
        scheduler.put_quota(quota).await.map_err(status)?;
        tracing::info!(instance, cohort, set, "a quota was set");
        Ok(Response::new(PutInstanceQuotaResponse {}))
    }

    async fn delete_instance_quota(
        &self,
        request: Request<DeleteInstanceQuotaRequest>,
    ) -> Result<Response<DeleteInstanceQuotaResponse>, Status> {
        let DeleteInstanceQuotaRequest { instance_name, bot_cohort } = request.into_inner();
        let scheduler = self.instances.get(&instance_name).await.map_err(status)?;
        scheduler.delete_quota(&bot_cohort, &instance_name).await.map_err(status)?;
        tracing::info!(instance = instance_name, cohort = bot_cohort, "a quota was removed");
        Ok(Response::new(DeleteInstanceQuotaResponse {}))
    }

    async fn get_all_instance_quota(
        &self,
        request: Request<GetAllInstanceQuotaRequest>,
    ) -> Result<Response<GetAllInstanceQuotaResponse>, Status> {
        let shares = self.shares(&request.into_inner().instance_name).await?;
        Ok(Response::new(GetAllInstanceQuotaResponse {
            instance_quotas: shares.into_iter().map(wire).collect(),
        }))
    }
}
