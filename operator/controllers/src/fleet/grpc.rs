//! Fleet over gRPC, with the grid's admin token.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use grid_proto::fleet::{self, DrainReason, DrainState, drain_target, fleet_client::FleetClient};
use k8s_openapi::jiff::Timestamp;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Transport, Identity as Pair};
use tonic::{Request, Status};

use super::api::{Bot, Demand, Drain, FleetApi, FleetConnector, FleetError, PoolDemand, Reason, Target};
use super::{Declaration, Endpoint};
use crate::mutual_tls::Identity;

/// How long a call may take, but the watch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be silent before it is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Least time between two messages about demand that went on changing.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// Connects by gRPC.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcConnector;

impl FleetConnector for GrpcConnector {
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn FleetApi>, FleetError> {
        let wrong = |error: &dyn std::fmt::Display| FleetError(format!("{}: {error}", endpoint.url));
        let token = MetadataValue::try_from(format!("Bearer {}", endpoint.token)).map_err(|e| wrong(&e))?;
        let transport = Transport::from_shared(endpoint.url.clone()).map_err(|e| wrong(&e))?;
        let transport = match &endpoint.identity {
            Some(identity) => transport.tls_config(tls(identity)).map_err(|e| wrong(&e))?,
            None => transport,
        };
        let channel = transport
            .connect_timeout(Duration::from_secs(3))
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        Ok(Arc::new(GrpcFleet { client: FleetClient::new(channel), token }))
    }
}

/// Both sides know each other by what the grid's own CA signed.
fn tls(identity: &Identity) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identity.authority))
        .identity(Pair::from_pem(&identity.chain, &identity.key))
}

/// The connection to one grid.
struct GrpcFleet {
    client: FleetClient<Channel>,
    token: MetadataValue<Ascii>,
}

impl GrpcFleet {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    fn bounded<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(PATIENCE);
        request
    }
}

#[async_trait]
impl FleetApi for GrpcFleet {
    async fn declare(&self, declaration: &Declaration, revision: u64) -> Result<(), FleetError> {
        let message = fleet::DeclarePoolsRequest {
            owner: declaration.owner.clone(),
            revision,
            pools: declaration.pools.clone(),
        };
        self.client.clone().declare_pools(self.bounded(message)).await.map_err(said)?;
        Ok(())
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Demand, FleetError>>, FleetError> {
        let message = fleet::WatchDemandRequest { demand: None, min_interval: MIN_INTERVAL.try_into().ok() };
        let stream = self.client.clone().watch_demand(self.request(message)).await.map_err(said)?;
        Ok(stream.into_inner().map(|message| message.map(demand).map_err(said)).boxed())
    }

    async fn bots(&self, pool: &str) -> Result<Vec<Bot>, FleetError> {
        let mut bots = vec![];
        let mut page_token = String::new();
        loop {
            let message = fleet::ListBotsRequest {
                pool: pool.to_owned(),
                page_token,
                ..fleet::ListBotsRequest::default()
            };
            let page = self.client.clone().list_bots(self.bounded(message)).await.map_err(said)?.into_inner();
            bots.extend(page.bots.into_iter().map(bot));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(bots);
            }
        }
    }

    async fn drain(&self, targets: &[Target], grace: Duration, reason: Reason) -> Result<(), FleetError> {
        let message = fleet::DrainRequest {
            targets: targets.iter().map(wire).collect(),
            grace: grace.try_into().ok(),
            reason: said_as(reason).into(),
        };
        self.client.clone().drain(self.bounded(message)).await.map_err(said)?;
        Ok(())
    }

    async fn undrain(&self, targets: &[Target]) -> Result<(), FleetError> {
        let message = fleet::UndrainRequest { targets: targets.iter().map(wire).collect() };
        self.client.clone().undrain(self.bounded(message)).await.map_err(said)?;
        Ok(())
    }

    async fn drained_nodes(&self) -> Result<Vec<String>, FleetError> {
        let mut nodes = vec![];
        let mut page_token = String::new();
        loop {
            let message = fleet::ListDrainsRequest { page_token, ..fleet::ListDrainsRequest::default() };
            let page = self.client.clone().list_drains(self.bounded(message)).await.map_err(said)?;
            let page = page.into_inner();
            let of_nodes = page.drains.into_iter().filter(|drain| drain.reason() == DrainReason::Node);
            nodes.extend(of_nodes.filter_map(|drain| match drain.target?.target? {
                drain_target::Target::Node(node) => Some(node),
                drain_target::Target::Bot(_) | drain_target::Target::Pool(_) => None,
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(nodes);
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the signature that map_err asks for")]
fn said(status: Status) -> FleetError {
    FleetError(format!("{:?}: {}", status.code(), status.message()))
}

fn wire(target: &Target) -> fleet::DrainTarget {
    let target = match target.clone() {
        Target::Bot(bot) => drain_target::Target::Bot(bot),
        Target::Node(node) => drain_target::Target::Node(node),
    };
    fleet::DrainTarget { target: Some(target) }
}

fn said_as(reason: Reason) -> DrainReason {
    match reason {
        Reason::ScaleDown => DrainReason::ScaleDown,
        Reason::Node => DrainReason::Node,
        Reason::Faulty => DrainReason::Faulty,
        Reason::Other => DrainReason::Manual,
    }
}

fn reason(drain: &fleet::DrainStatus) -> Reason {
    match drain.reason() {
        DrainReason::ScaleDown => Reason::ScaleDown,
        DrainReason::Node => Reason::Node,
        DrainReason::Faulty => Reason::Faulty,
        DrainReason::Unspecified | DrainReason::Upgrade | DrainReason::SpotNotice | DrainReason::Manual => {
            Reason::Other
        }
    }
}

fn demand(message: fleet::Demand) -> Demand {
    let pools = message.pools.into_iter().map(|pool| {
        let demand = PoolDemand {
            queued: pool.queued,
            executing: pool.executing,
            oldest: pool.oldest_queue_age.and_then(|age| age.try_into().ok()),
            required_slots: pool.required_slots,
            bots: pool.bots.into(),
        };
        (pool.pool, demand)
    });
    Demand { pools: pools.collect(), unplaced: message.unplaced.into_iter().map(unplaced).collect() }
}

/// What is asked for, and what the nearest pool lacks of it. Without numbers: the sentence changes only with its sense.
fn unplaced(unplaced: fleet::UnplacedDemand) -> String {
    let list = |properties: &[fleet::Property]| {
        let all: Vec<String> = properties.iter().map(|p| format!("{}={}", p.key, p.value)).collect();
        all.join(", ")
    };
    let asked = list(&unplaced.requirements);
    let instance = unplaced.instance_name;
    match unplaced.mismatch {
        Some(mismatch) if !mismatch.nearest_pool.is_empty() => format!(
            "actions of the instance {instance:?} ask for {asked}; the nearest pool, {}, lacks {}",
            mismatch.nearest_pool,
            list(&mismatch.missing)
        ),
        _ => format!("actions of the instance {instance:?} ask for {asked}, and no pool offers any of it"),
    }
}

fn bot(message: fleet::Bot) -> Bot {
    let reason = message.drain.as_ref().map(reason).unwrap_or_default();
    let drain = match message.drain.map(|drain| drain.state()) {
        None => Drain::None,
        Some(DrainState::Drained) => Drain::Done,
        Some(DrainState::Unspecified | DrainState::Requested | DrainState::Acknowledged) => Drain::Going,
    };
    Bot {
        id: message.bot_id,
        leases: message.leases.len(),
        idle_since: message.idle_since.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()),
        drain,
        reason,
        faults: message.consecutive_faults,
    }
}
