//! [`SimStore`]: a queue store in memory that fails as databases and networks do, on a seeded schedule.
//!
//! Transactions are serial. Each call may stall; a commit may fail before or after it took effect; news may be
//! lost, late or doubled. Time is tokio's, so that under a paused runtime a schedule depends on its seed alone.

pub mod load;
mod tables;
mod tx;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use grid_core::Timestamp;
use parking_lot::Mutex as SyncMutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub use self::tables::Tables;
use crate::SchedulerError;
use crate::filter::ListQuery;
use crate::fleet::{FleetRows, Wait, WaitQuery};
use crate::history::Run;
use crate::ids::{Ids, JobId, OperationId};
use crate::job::{Job, Stage};
use crate::metadata::{Summary, SummaryQuery, Values, ValuesQuery};
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::quota::Share;
use crate::store::{Depth, Event, JobPage, QueueStore, QueueTx, Recent, RunQuery, StoreResult};

/// How often things go wrong, each in thousandths of the calls it concerns.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A statement that fails.
    pub statement: u32,
    /// A commit that fails and took no effect.
    pub commit: u32,
    /// A commit that took effect, and whose answer is lost.
    pub unknown: u32,
    /// News that is lost.
    pub lost: u32,
    /// News that comes twice.
    pub doubled: u32,
    /// The longest stall of a call.
    pub stall: Duration,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self =
        Self { statement: 0, commit: 0, unknown: 0, lost: 0, doubled: 0, stall: Duration::ZERO };
}

/// Looks at every committed state, and panics where it can't be.
pub type Inspector = Box<dyn Fn(&Tables) + Send + Sync>;

/// A simulated database, as one of its clients sees it.
#[derive(Clone)]
pub struct SimStore {
    world: Arc<World>,
    handle: usize,
}

struct World {
    tables: Arc<Mutex<Tables>>,
    rng: SyncMutex<StdRng>,
    faults: SyncMutex<Faults>,
    away: AtomicBool,
    listeners: SyncMutex<Vec<(usize, mpsc::UnboundedSender<Event>)>>,
    epoch: Instant,
    inspect: Inspector,
}

impl std::fmt::Debug for SimStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimStore").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl SimStore {
    /// An empty database.
    #[must_use]
    pub fn new(seed: u64, faults: Faults, inspect: Inspector) -> Self {
        let world = World {
            tables: Arc::default(),
            rng: SyncMutex::new(StdRng::seed_from_u64(seed)),
            faults: SyncMutex::new(faults),
            away: AtomicBool::new(false),
            listeners: SyncMutex::default(),
            epoch: Instant::now(),
            inspect,
        };
        Self { world: Arc::new(world), handle: 0 }
    }

    /// The same database, as another client sees it.
    #[must_use]
    pub fn sibling(&self, handle: usize) -> Self {
        Self { world: Arc::clone(&self.world), handle }
    }

    /// Changes how often things go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.world.faults.lock() = faults;
    }

    /// Says whether the database is away: then every statement and every commit fails.
    pub fn set_away(&self, away: bool) {
        self.world.away.store(away, Ordering::Relaxed);
    }

    /// The committed state.
    pub async fn tables(&self) -> Tables {
        self.world.tables.lock().await.clone()
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    async fn read<T>(&self, read: impl FnOnce(&Tables) -> T + Send) -> StoreResult<T> {
        self.world.stall().await;
        self.world.fail(|f| f.statement)?;
        let found = read(&*self.world.tables.lock().await);
        // The answer takes its time too, in which the state may change.
        self.world.stall().await;
        Ok(found)
    }
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000).after(self.epoch.elapsed())
    }

    fn chance(&self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng.lock().random_range(0..1_000) < thousandths
    }

    fn fail(&self, what: impl FnOnce(&Faults) -> u32) -> StoreResult<()> {
        let thousandths = what(&self.faults.lock());
        if self.away.load(Ordering::Relaxed) || self.chance(thousandths) {
            return Err(SchedulerError::Unavailable("simulated".into()));
        }
        Ok(())
    }

    async fn stall(&self) {
        let longest = self.faults.lock().stall;
        if !longest.is_zero() {
            let micros = self.rng.lock().random_range(0..longest.as_micros().max(1));
            sleep(Duration::from_micros(u64::try_from(micros).unwrap_or(0))).await;
        }
    }

    fn tell(&self, from: usize, events: &[Event]) {
        let faults = *self.faults.lock();
        let listeners = self.listeners.lock().clone();
        for (_, listener) in listeners.iter().filter(|(handle, _)| *handle != from) {
            for event in events.iter().filter(|_| !self.chance(faults.lost)) {
                let copies = if self.chance(faults.doubled) { 2 } else { 1 };
                for _ in 0..copies {
                    // A client that crashed no longer listens.
                    let _ = listener.send(event.clone());
                }
            }
        }
    }
}

#[async_trait]
impl QueueStore for SimStore {
    async fn begin(&self) -> StoreResult<Box<dyn QueueTx>> {
        self.world.stall().await;
        self.world.fail(|f| f.statement)?;
        let committed = Arc::clone(&self.world.tables).lock_owned().await;
        Ok(Box::new(tx::SimTx::new(Arc::clone(&self.world), self.handle, committed)))
    }

    async fn jobs(&self, ids: &[JobId]) -> StoreResult<Vec<Job>> {
        self.read(|t| ids.iter().filter_map(|id| t.jobs.get(id).map(|job| job.as_ref().clone())).collect())
            .await
    }

    async fn operations(&self, ids: &[OperationId]) -> StoreResult<Vec<(Operation, Job)>> {
        let pair = |t: &Tables, id: &OperationId| {
            let operation = t.operations.get(id)?;
            Some((operation.as_ref().clone(), t.jobs.get(&operation.job)?.as_ref().clone()))
        };
        self.read(|t| ids.iter().filter_map(|id| pair(t, id)).collect()).await
    }

    /// Every operation of the instance that is not over; filters are the SQL stores' own affair.
    async fn list(&self, query: &ListQuery) -> StoreResult<Vec<(Operation, Job)>> {
        self.read(|t| {
            let mine = t.operations.values().filter(|o| o.instance == query.instance);
            mine.filter_map(|o| Some((o.as_ref().clone(), t.jobs.get(&o.job)?.as_ref().clone()))).collect()
        })
        .await
    }

    async fn metadata_values(&self, query: &ValuesQuery) -> StoreResult<Values> {
        self.read(|t| t.metadata_values(query)).await
    }

    async fn metadata_summary(&self, query: &SummaryQuery) -> StoreResult<Summary> {
        self.read(|t| t.metadata_summary(query)).await
    }

    async fn queued(&self) -> StoreResult<Vec<RequirementId>> {
        self.read(|t| {
            let waiting = t.jobs.values().filter(|j| j.state.stage == Stage::Queued);
            waiting.map(|j| j.spec.requirement).collect::<HashSet<_>>().into_iter().collect()
        })
        .await
    }

    async fn depths(&self) -> StoreResult<Vec<Depth>> {
        self.read(Tables::depths).await
    }

    async fn labelled(&self, label: &str, limit: u64) -> StoreResult<u64> {
        let waits = |job: &&Arc<Job>| job.state.stage == Stage::Queued && job.spec.label == label;
        self.read(|t| (t.jobs.values().filter(waits).count() as u64).min(limit)).await
    }

    async fn requirements(&self, ids: &[RequirementId]) -> StoreResult<Vec<Requirement>> {
        self.read(|t| ids.iter().filter_map(|id| t.requirements.get(id).map(|(r, _)| r.clone())).collect())
            .await
    }

    async fn fleet(&self) -> StoreResult<FleetRows> {
        let now = self.now();
        self.read(|t| t.fleet(now)).await
    }

    async fn recent(&self, since: Timestamp, limit: u32) -> StoreResult<Vec<Recent>> {
        self.read(|t| t.recent(since, usize::try_from(limit).unwrap_or(usize::MAX))).await
    }

    async fn page(&self, page: &JobPage) -> StoreResult<Vec<(Job, Vec<Operation>)>> {
        self.read(|t| t.page(page)).await
    }

    async fn runs(&self, query: &RunQuery) -> StoreResult<Vec<Run>> {
        self.read(|t| t.runs(query)).await
    }

    async fn waits(&self, query: &WaitQuery) -> StoreResult<Vec<Wait>> {
        self.read(|t| t.waits(query)).await
    }

    async fn ahead(&self, job: &Job, requirements: &[RequirementId]) -> StoreResult<u64> {
        self.read(|t| t.ahead(job, requirements)).await
    }

    async fn shares(&self, evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
        self.read(|t| t.shares(evicted_since)).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.world.listeners.lock().push((self.handle, sender));
        let world = Arc::clone(&self.world);
        futures::stream::unfold((world, receiver), |(world, mut receiver)| async move {
            let event = receiver.recv().await?;
            world.stall().await;
            Some((event, (world, receiver)))
        })
        .boxed()
    }

    async fn probe(&self) -> StoreResult<()> {
        self.world.fail(|f| f.statement)
    }
}

/// Identifiers from a seed.
#[derive(Debug)]
pub struct SimIds(SyncMutex<StdRng>);

impl SimIds {
    /// The identifiers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(SyncMutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Ids for SimIds {
    fn next(&self) -> Uuid {
        Uuid::from_u128(self.0.lock().random())
    }
}
