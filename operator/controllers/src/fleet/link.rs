//! The link to one grid: declares its pools when they change, and keeps the demand that it hears.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use grid_operator_apply::Leadership;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::api::{Demand, FleetApi, FleetConnector, FleetError, Reason, Target};
use super::{Declaration, Endpoint, Key, News, Nodes};

/// The first and the longest wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What the link is to be.
#[derive(Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) endpoint: Endpoint,
    pub(crate) declaration: Declaration,
    /// Whether a server of the grid is there to answer, as far as is known; where one comes, it is asked at once.
    pub(crate) is_served: bool,
}

/// What is known of the grid; nothing while it can't be reached.
#[derive(Default)]
struct Known {
    api: Option<Arc<dyn FleetApi>>,
    demand: Option<Demand>,
}

/// The link; it ends when it is dropped.
pub(super) struct Link {
    wanted: watch::Sender<Wanted>,
    known: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(super) fn open(
        grid: Key,
        connector: Arc<dyn FleetConnector>,
        leadership: Leadership,
        news: broadcast::Sender<News>,
        nodes: watch::Receiver<Nodes>,
        wanted: Wanted,
    ) -> Self {
        let (wanted, watched) = watch::channel(wanted);
        let known = Arc::<Mutex<Known>>::default();
        let known_by_runner = Arc::clone(&known);
        let runner =
            Runner { grid, connector, leadership, news, nodes, wanted: watched, known: known_by_runner };
        Self { wanted, known, task: tokio::spawn(runner.run()) }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    pub(super) fn want(&self, next: Wanted) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != next;
            *wanted = next;
            changed
        });
    }

    pub(super) fn declare(&self, declaration: Declaration) {
        let next = Wanted { declaration, ..self.wanted.borrow().clone() };
        self.want(next);
    }

    pub(super) fn concurrency(&self, pool: &str) -> Option<u32> {
        let wanted = self.wanted.borrow();
        wanted.declaration.pools.iter().find(|declared| declared.name == pool).map(|pool| pool.concurrency)
    }

    pub(super) fn demand(&self) -> Option<Demand> {
        self.known.lock().demand.clone()
    }

    pub(super) fn api(&self) -> Option<Arc<dyn FleetApi>> {
        self.known.lock().api.clone()
    }
}

struct Runner {
    grid: Key,
    connector: Arc<dyn FleetConnector>,
    leadership: Leadership,
    news: broadcast::Sender<News>,
    nodes: watch::Receiver<Nodes>,
    wanted: watch::Receiver<Wanted>,
    known: Arc<Mutex<Known>>,
}

impl Runner {
    /// Stays connected as long as this replica leads; the next leader opens a link of its own.
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while self.leadership.is_held() {
            let heard = self.session().await;
            let lost = std::mem::take(&mut *self.known.lock());
            if lost.demand.is_some() {
                self.tell(News::Grid(self.grid.clone()));
                wait = FIRST_WAIT;
            }
            if let Err(error) = heard {
                tracing::debug!(grid = self.grid.path(), %error, "Fleet can't be heard");
            }
            wait = if self.is_roused_within(wait).await { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
        }
    }

    /// Waits to try again: until something else is wanted, or a server of the grid has become able to answer. What is
    /// wanted next and has come meanwhile counts too, so that no news is lost.
    async fn is_roused_within(&mut self, wait: Duration) -> bool {
        match tokio::time::timeout(wait, self.wanted.changed()).await {
            Ok(Ok(())) => true,
            // The link has been dropped, and its task with it.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => false,
        }
    }

    /// One connection, until it fails or another is wanted.
    async fn session(&mut self) -> Result<(), FleetError> {
        let mut wanted = self.wanted.borrow_and_update().clone();
        let api = self.connector.connect(&wanted.endpoint)?;
        self.declare(api.as_ref(), &wanted).await?;
        self.drain_nodes(api.as_ref(), &wanted).await?;
        let mut demand = api.watch().await?;
        loop {
            tokio::select! {
                heard = demand.next() => match heard {
                    Some(heard) => self.heard(&api, &heard?),
                    None => return Ok(()),
                },
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let next = self.wanted.borrow_and_update().clone();
                    if next.endpoint != wanted.endpoint {
                        return Ok(());
                    }
                    if next.declaration != wanted.declaration {
                        self.declare(api.as_ref(), &next).await?;
                    }
                    wanted = next;
                }
                Ok(()) = self.nodes.changed() => self.drain_nodes(api.as_ref(), &wanted).await?,
            }
        }
    }

    async fn declare(&self, api: &dyn FleetApi, wanted: &Wanted) -> Result<(), FleetError> {
        if !self.leadership.is_held() {
            return Err(FleetError("no longer the leader: nothing is declared".to_owned()));
        }
        let revision = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        api.declare(&wanted.declaration, revision).await
    }

    /// Brings the drains of nodes to what the nodes are now; nothing where nobody knows the nodes.
    async fn drain_nodes(&mut self, api: &dyn FleetApi, wanted: &Wanted) -> Result<(), FleetError> {
        let nodes = self.nodes.borrow_and_update().clone();
        if !nodes.is_complete() || !self.leadership.is_held() {
            return Ok(());
        }
        let leaving = nodes.leaving();
        let drained = api.drained_nodes().await?;
        let node = |name: &str| Target::Node(name.to_owned());
        let staying: Vec<Target> =
            drained.iter().filter(|name| !leaving.contains(name.as_str())).map(|name| node(name)).collect();
        if !staying.is_empty() {
            api.undrain(&staying).await?;
        }
        let is_new = |name: &&&str| !drained.iter().any(|known| known == **name);
        let going: Vec<Target> = leaving.iter().filter(is_new).map(|name| node(name)).collect();
        if !going.is_empty() {
            api.drain(&going, wanted.declaration.grace, Reason::Node).await?;
        }
        Ok(())
    }

    /// Keeps the demand, and tells of the pools and of the grid whose part of it changed.
    fn heard(&self, api: &Arc<dyn FleetApi>, demand: &Demand) {
        let before = {
            let mut known = self.known.lock();
            known.api.get_or_insert_with(|| Arc::clone(api));
            known.demand.replace(demand.clone())
        };
        let known_before = |name: &str| {
            before.as_ref().and_then(|b| b.pools.iter().find(|(n, _)| n == name)).map(|(_, demand)| demand)
        };
        for (name, now) in &demand.pools {
            if known_before(name) != Some(now)
                && let Some(pool) = Key::parse(name)
            {
                self.tell(News::Pool(pool));
            }
        }
        if before.as_ref().map(|b| &b.unplaced) != Some(&demand.unplaced) {
            self.tell(News::Grid(self.grid.clone()));
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens any more where the operator is ending.
        let _ = self.news.send(news);
    }
}
