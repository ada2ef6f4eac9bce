//! The operator's side of each grid's Fleet service: which pools there are is told to it, how many workers they need is
//! heard from it, and workers that are to leave are drained through it.
//!
//! - `api`: what is asked, as a trait, and its gRPC client;
//! - `link`: the connection to one grid, which lives as long as the grid is served and this replica leads;
//! - `declaration`: pools as Fleet knows them;
//! - `nodes`: nodes that take no more pods, whose workers take no more actions either;
//! - `scaler`: the demand as KEDA asks for it.
//!
//! Nothing here decides how many workers there are to be: that is `workerpool::scaling`. A grid that can't be reached
//! has no demand at all, and then nothing is scaled.

mod api;
mod declaration;
mod grpc;
mod link;
mod nodes;
mod scaler;

use std::collections::HashMap;
use std::sync::Arc;

use grid_operator_apply::Leadership;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::mutual_tls::Identity;
pub use api::{Bot, Demand, Drain, FleetApi, FleetConnector, FleetError, PoolDemand, Reason, Target};
pub use declaration::Declaration;
pub(crate) use declaration::{declare, offered};
pub use grpc::GrpcConnector;
use link::Link;
pub(crate) use link::Wanted;
pub use nodes::{NodeState, Nodes};
pub use scaler::Scaler;

/// A resource by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The resource of that name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// As Fleet writes it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The resource that Fleet calls so.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        path.split_once('/').map(|(namespace, name)| Self::new(namespace, name))
    }
}

/// Where a grid's Fleet service is, and what it asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// The admin token.
    pub token: String,
    /// What is shown to it, where it asks for a certificate.
    pub identity: Option<Identity>,
}

/// What is news for a reconciler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The demand for a pool.
    Pool(Key),
    /// What a grid can't place, or whether it can be reached.
    Grid(Key),
    /// The nodes.
    Nodes,
}

/// The links to all grids.
pub struct Fleets {
    connector: Arc<dyn FleetConnector>,
    leadership: Leadership,
    links: Mutex<HashMap<Key, Link>>,
    news: broadcast::Sender<News>,
    nodes: watch::Sender<Nodes>,
}

/// News that may wait to be heard; a listener that falls further behind hears the next of each pool instead, at most
/// half a minute later.
const NEWS_KEPT: usize = 4_096;

impl Fleets {
    /// No links yet.
    #[must_use]
    pub fn new(connector: Arc<dyn FleetConnector>, leadership: Leadership) -> Self {
        let (news, _) = broadcast::channel(NEWS_KEPT);
        let (nodes, _) = watch::channel(Nodes::default());
        Self { connector, leadership, links: Mutex::new(HashMap::new()), news, nodes }
    }

    /// Notes how a node is now; nothing where it is gone. Where that is news, every grid hears of it.
    pub fn node(&self, name: &str, state: Option<NodeState>) {
        if self.nodes.send_if_modified(|nodes| nodes.note(name, state)) {
            // Nobody listens where the operator is ending.
            let _ = self.news.send(News::Nodes);
        }
    }

    /// All nodes were told of once: those that were not are gone.
    pub fn only_nodes(&self, names: &std::collections::BTreeSet<String>) {
        if self.nodes.send_if_modified(|nodes| nodes.complete(names)) {
            let _ = self.news.send(News::Nodes);
        }
    }

    /// The nodes that aren't as they should be.
    pub(crate) fn nodes(&self) -> Nodes {
        self.nodes.borrow().clone()
    }

    /// What is to be reconciled from now on.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Keeps a link to a grid, with its pools declared.
    pub(crate) fn attend(&self, grid: &Key, wanted: Wanted) {
        let mut links = self.links.lock();
        match links.get(grid) {
            Some(link) if link.is_alive() => link.want(wanted),
            _ => {
                links.insert(grid.clone(), self.open(grid, wanted));
            }
        }
    }

    /// The same, where a link that there is goes on to where it leads.
    pub(crate) fn attend_still(&self, grid: &Key, wanted: Wanted) {
        let mut links = self.links.lock();
        match links.get(grid) {
            Some(link) if link.is_alive() => link.declare(wanted.declaration),
            _ => {
                links.insert(grid.clone(), self.open(grid, wanted));
            }
        }
    }

    fn open(&self, grid: &Key, wanted: Wanted) -> Link {
        let (connector, nodes) = (Arc::clone(&self.connector), self.nodes.subscribe());
        Link::open(grid.clone(), connector, self.leadership.clone(), self.news.clone(), nodes, wanted)
    }

    /// Ends the link to a grid.
    pub(crate) fn forget(&self, grid: &Key) {
        self.links.lock().remove(grid);
    }

    /// The demand for a pool, as far as it is known now.
    #[must_use]
    pub fn demand(&self, grid: &Key, pool: &Key) -> Option<PoolDemand> {
        let demand = self.links.lock().get(grid)?.demand()?;
        demand.pools.into_iter().find(|(name, _)| *name == pool.path()).map(|(_, demand)| demand)
    }

    /// Actions that one worker of a pool runs at a time, as it was declared.
    #[must_use]
    pub fn concurrency(&self, grid: &Key, pool: &Key) -> Option<u32> {
        self.links.lock().get(grid)?.concurrency(&pool.path())
    }

    /// What no pool of a grid fits, in words; nothing where it can't be reached.
    pub(crate) fn unplaced(&self, grid: &Key) -> Option<Vec<String>> {
        self.links.lock().get(grid)?.demand().map(|demand| demand.unplaced)
    }

    /// The connection to a grid, if there is one now.
    pub(crate) fn api(&self, grid: &Key) -> Option<Arc<dyn FleetApi>> {
        self.links.lock().get(grid)?.api()
    }

    /// The demand for all pools that are known, for metrics.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Key, PoolDemand)> {
        let links = self.links.lock();
        let demands = links.values().filter_map(Link::demand).flat_map(|demand| demand.pools);
        demands.filter_map(|(name, demand)| Some((Key::parse(&name)?, demand))).collect()
    }

    /// How many grids there are links to, and how many of them answer.
    #[must_use]
    pub fn reachable(&self) -> (usize, usize) {
        let links = self.links.lock();
        (links.len(), links.values().filter(|link| link.demand().is_some()).count())
    }
}
