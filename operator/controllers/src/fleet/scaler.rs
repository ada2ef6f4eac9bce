//! KEDA's external scaler: the demand for a pool as a metric, for pools that a ScaledObject scales instead of
//! `spec.autoscaling`. The trigger's metadata names the pool, and its grid.
//!
//! ```yaml
//! scaleTargetRef: {apiVersion: grid.build/v1alpha1, kind: WorkerPool, name: gcc12}
//! triggers:
//!   - type: external-push
//!     metadata: {scalerAddress: "grid-operator.grid-system:8983", grid: demo, pool: gcc12}
//! ```

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use grid_proto::externalscaler::external_scaler_server::ExternalScaler;
use grid_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::{Fleets, Key, News, PoolDemand};

/// The one metric: slots that the pool needs.
const METRIC: &str = "required-slots";

/// Answers KEDA by what the grids' Fleet services say.
pub struct Scaler {
    fleets: Arc<Fleets>,
}

/// A pool that a trigger names.
struct Target {
    grid: Key,
    pool: Key,
}

impl Target {
    fn of(object: &ScaledObjectRef) -> Result<Self, Status> {
        let named = |key: &str| {
            object.scaler_metadata.get(key).filter(|name| !name.is_empty()).ok_or_else(|| {
                Status::invalid_argument(format!("the trigger's metadata has no {key}: give grid and pool"))
            })
        };
        // Always of the ScaledObject's own namespace: it can ask for no one else's demand.
        Ok(Self {
            grid: Key::new(&object.namespace, named("grid")?),
            pool: Key::new(&object.namespace, named("pool")?),
        })
    }
}

impl Scaler {
    /// A scaler of the pools of these grids.
    #[must_use]
    pub fn new(fleets: Arc<Fleets>) -> Self {
        Self { fleets }
    }

    fn demand(&self, target: &Target) -> Result<PoolDemand, Status> {
        self.fleets.demand(&target.grid, &target.pool).ok_or_else(|| {
            Status::unavailable(format!(
                "the demand for {} is not known: the Fleet service of {} can't be reached, or has no such pool",
                target.pool.path(),
                target.grid.path()
            ))
        })
    }

    /// The metric and its target for one worker.
    fn spec(&self, target: &Target) -> Result<GetMetricSpecResponse, Status> {
        let slots = self.fleets.concurrency(&target.grid, &target.pool).ok_or_else(|| {
            Status::not_found(format!("{} has no pool {}", target.grid.path(), target.pool.path()))
        })?;
        Ok(GetMetricSpecResponse {
            metric_specs: vec![MetricSpec {
                metric_name: METRIC.to_owned(),
                target_size: i64::from(slots),
                target_size_float: f64::from(slots),
            }],
        })
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Answers<IsActiveResponse>;
    type StreamMetricSpecStream = Answers<GetMetricSpecResponse>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let demand = self.demand(&Target::of(request.get_ref())?)?;
        Ok(Response::new(IsActiveResponse { result: demand.required_slots > 0 }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let target = Target::of(request.get_ref())?;
        let fleets = Arc::clone(&self.fleets);
        let now = move |fleets: &Fleets| {
            let demand = fleets.demand(&target.grid, &target.pool)?;
            Some((target.pool.clone(), demand.required_slots > 0))
        };
        let first = now(&fleets).map(|(_, result)| Ok(IsActiveResponse { result }));
        let changes = BroadcastStream::new(fleets.news()).filter_map(move |news| {
            let active = now(&fleets).filter(|(pool, _)| matches!(&news, Ok(News::Pool(key)) if key == pool));
            std::future::ready(active.map(|(_, result)| Ok(IsActiveResponse { result })))
        });
        Ok(Response::new(Box::pin(futures::stream::iter(first).chain(changes))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        self.spec(&Target::of(request.get_ref())?).map(Response::new)
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let request = request.into_inner();
        let object = request.scaled_object_ref.unwrap_or_default();
        let demand = self.demand(&Target::of(&object)?)?;
        let slots = u32::try_from(demand.required_slots).unwrap_or(u32::MAX);
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![MetricValue {
                metric_name: METRIC.to_owned(),
                metric_value: i64::from(slots),
                metric_value_float: f64::from(slots),
            }],
        }))
    }

    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        Err(Status::unimplemented("the metric's target changes with the pool's spec only: ask GetMetricSpec"))
    }
}
