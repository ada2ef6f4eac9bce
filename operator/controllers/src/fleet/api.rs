//! What the operator asks of a grid's Fleet service. A trait, for tests stand in for a grid.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::jiff::Timestamp;

use super::{Declaration, Endpoint};
use std::sync::Arc;

/// Why Fleet didn't do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Fleet: {0}")]
pub struct FleetError(pub String);

/// The demand of one grid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// By the names under which the pools were declared.
    pub pools: Vec<(String, PoolDemand)>,
    /// What no pool fits, and why, a sentence each.
    pub unplaced: Vec<String>,
}

/// The demand for one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolDemand {
    /// Actions that wait for it.
    pub queued: u64,
    /// Actions that it runs.
    pub executing: u64,
    /// How long the oldest has waited.
    pub oldest: Option<Duration>,
    /// Slots with which nothing would wait.
    pub required_slots: u64,
    /// Workers that are there and don't leave.
    pub bots: u64,
}

/// One worker's session.
#[derive(Clone, Debug, PartialEq)]
pub struct Bot {
    /// What it calls itself: its pod's name, perhaps with a slash and a number.
    pub id: String,
    /// Actions that it runs.
    pub leases: usize,
    /// Since when it has none.
    pub idle_since: Option<Timestamp>,
    /// How far it is with leaving.
    pub drain: Drain,
    /// Why it is leaving, where it is.
    pub reason: Reason,
    /// Actions in a row that failed by the worker's own fault.
    pub faults: u32,
}

/// How far a worker is with leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// It stays.
    #[default]
    None,
    /// It gets no more actions, and may still run some.
    Going,
    /// Nothing runs, and every result is kept: it may be ended.
    Done,
}

/// Why a worker is to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// There are more than are needed.
    #[default]
    ScaleDown,
    /// Its node is to take no more pods.
    Node,
    /// It fails by itself.
    Faulty,
    /// Somebody else's, a person's for one: nothing that the operator began or ends.
    Other,
}

/// What is to leave, or to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One worker, by what it calls itself.
    Bot(String),
    /// All workers of a node, those too that come later.
    Node(String),
}

impl Bot {
    /// The name of its pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        self.id.split_once('/').map_or(&self.id, |(pod, _)| pod)
    }
}

/// A connection to a grid's Fleet service.
#[async_trait]
pub trait FleetApi: Send + Sync {
    /// Makes these all the pools that there are.
    async fn declare(&self, declaration: &Declaration, revision: u64) -> Result<(), FleetError>;
    /// The demand now, and whenever it changes.
    async fn watch(&self) -> Result<BoxStream<'static, Result<Demand, FleetError>>, FleetError>;
    /// The workers of a pool.
    async fn bots(&self, pool: &str) -> Result<Vec<Bot>, FleetError>;
    /// Gives these no more actions; what drains already keeps its deadline.
    async fn drain(&self, targets: &[Target], grace: Duration, reason: Reason) -> Result<(), FleetError>;
    /// Gives them actions again; nothing happens where they don't drain.
    async fn undrain(&self, targets: &[Target]) -> Result<(), FleetError>;
    /// The nodes that were drained for their own sake.
    async fn drained_nodes(&self) -> Result<Vec<String>, FleetError>;
}

/// Makes connections.
pub trait FleetConnector: Send + Sync {
    /// A connection, which is made when it is first used.
    ///
    /// # Errors
    /// The URL or the token is none.
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn FleetApi>, FleetError>;
}
