//! One replica of the scheduler: calls in, batches to the store, news out to those who wait.

mod batcher;
mod bots;
mod clients;
mod core;
mod counts;
mod dispatcher;
mod fleet;
mod hub;
mod loops;
mod observer;
mod options;
mod patience;
mod quotas;
mod streams;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

pub use bots::{Poll, Standing};
pub use clients::ExecuteRequest;
pub use counts::{Bots, CohortShare, Counts, Jobs, Kind};
pub use fleet::{JobFilter, Why};
pub use hub::{View, Watch};
pub use observer::{Assigned, Observer, SchedulerEvent};
pub use options::SchedulerOptions;

use self::batcher::{Batcher, Limits};
use self::core::Core;
use self::patience::patiently;
use crate::SchedulerError;
use crate::engine::{self, BotReport, Registration, Submission, Submitted, Synced};
use crate::ids::{Ids, JobId, OperationId, ReplicaId};
use crate::job::{Job, Stage};
use crate::operation::Operation;
use crate::properties::Requirement;
use crate::session::Session;
use crate::store::QueueStore;

/// One replica of the scheduler. Dropping it stops its tasks; what it accepted goes on elsewhere.
#[derive(Debug)]
pub struct Scheduler {
    core: Arc<Core>,
    ids: Arc<dyn Ids>,
    submissions: Batcher<Submission, (Submitted, Watch)>,
    reports: Batcher<BotReport, Result<Synced, SchedulerError>>,
    registrations: Batcher<Registration, Session>,
    cancellations: Batcher<OperationId, Result<(), SchedulerError>>,
    jobs: Batcher<JobId, Option<Arc<Job>>>,
    operations: Batcher<OperationId, Option<(Operation, Arc<Job>)>>,
    _tasks: JoinSet<()>,
}

impl Scheduler {
    /// Starts a replica on a store. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(options: SchedulerOptions, store: Arc<dyn QueueStore>, ids: Arc<dyn Ids>) -> Arc<Self> {
        let limits = Limits { batch: options.batch, patience: options.patience };
        let (core, returned) = Core::new(options, store, ReplicaId(ids.next()));
        let mut tasks = JoinSet::new();
        loops::spawn(&core, returned, &ids, &mut tasks);

        let c = Arc::clone(&core);
        let (submissions, work) = Batcher::new(limits, move |batch| submit(Arc::clone(&c), batch));
        tasks.spawn(work);
        let c = Arc::clone(&core);
        let (reports, work) = Batcher::new(limits, move |batch| sync(Arc::clone(&c), batch));
        tasks.spawn(work);
        let c = Arc::clone(&core);
        let one = Limits { batch: 1, ..limits };
        let (registrations, work) = Batcher::new(one, move |batch| register(Arc::clone(&c), batch));
        tasks.spawn(work);
        let c = Arc::clone(&core);
        let (cancellations, work) = Batcher::new(limits, move |batch| cancel(Arc::clone(&c), batch));
        tasks.spawn(work);
        let c = Arc::clone(&core);
        let (jobs, work) = Batcher::new(limits, move |batch| load_jobs(Arc::clone(&c), batch));
        tasks.spawn(work);
        let c = Arc::clone(&core);
        let (operations, work) = Batcher::new(limits, move |batch| load_operations(Arc::clone(&c), batch));
        tasks.spawn(work);

        Arc::new(Self {
            core,
            ids,
            submissions,
            reports,
            registrations,
            cancellations,
            jobs,
            operations,
            _tasks: tasks,
        })
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &SchedulerOptions {
        &self.core.options
    }

    /// The pool that an instance belongs to: itself, unless the configuration groups it with others.
    #[must_use]
    pub fn pool<'a>(&'a self, instance: &'a str) -> &'a str {
        self.core.pool(instance)
    }

    /// What a job with this platform asks of a bot. Before a key is refused, the declared pools are read again: one
    /// that knows it may have been declared just now. Where pools are to be declared and none was yet, the call waits
    /// for them, as long as a job that no pool fits would ([`SchedulerOptions::awaits_pools`]).
    ///
    /// # Errors
    /// [`SchedulerError::Unsatisfiable`] where no bot could ever match.
    pub async fn requirement(
        &self,
        instance: &str,
        platform: &[(String, String)],
    ) -> Result<Requirement, SchedulerError> {
        let pool = self.pool(instance);
        let read = |view: &crate::fleet::View| {
            self.core.options.property_set.requirement(instance, pool, platform, &view.keys(pool))
        };
        match read(&self.core.view()) {
            Err(SchedulerError::Unsatisfiable { .. }) => read(self.declared().await?.as_ref()),
            known => known,
        }
    }

    /// The fleet as it is now, or, where it has yet to be declared, as it is then.
    async fn declared(&self) -> Result<Arc<crate::fleet::View>, SchedulerError> {
        let view = patiently(self.deadline(), || self.core.read_fleet()).await?;
        let Some(patience) = self.core.options.awaits_pools.filter(|_| !view.is_declared()) else {
            return Ok(view);
        };
        let mut views = self.core.fleet.subscribe();
        let declared = tokio::time::timeout(patience, views.wait_for(|view| view.is_declared())).await;
        Ok(match declared {
            Ok(Ok(view)) => Arc::clone(&view),
            // Nobody declared any, so there is no more to be known than before.
            Ok(Err(_)) | Err(_) => view,
        })
    }

    /// When the patience of a call that comes now is over, however many questions it needs.
    fn deadline(&self) -> Instant {
        Instant::now() + self.core.options.patience
    }

    /// Whether the database answers; for health, never on the path of a call.
    ///
    /// # Errors
    /// What a call would have met.
    pub async fn probe(&self) -> Result<(), SchedulerError> {
        self.core.store.probe().await
    }
}

async fn submit(core: Arc<Core>, batch: Vec<Submission>) -> Result<Vec<(Submitted, Watch)>, SchedulerError> {
    let mut watches = Vec::with_capacity(batch.len());
    let mut placed =
        |s: &Submitted| watches.push(core.hub.watch(s.operation.clone(), Arc::new(s.job.clone()), false));
    let (submitted, effects) =
        engine::submit(core.store.as_ref(), &batch, core.options.fair, &mut placed).await?;
    submitted.iter().for_each(|s| core.hub.confirm(s.operation.id));
    core.dispatcher.interned(batch.into_iter().filter_map(|s| s.requirement));
    if core.view().has_pools() {
        let fresh = submitted.iter().filter(|s| !s.merged && s.job.state.stage == Stage::Queued);
        core.arrive(fresh.map(|s| s.job.spec.requirement));
    }
    core.apply(effects);
    Ok(submitted.into_iter().zip(watches).collect())
}

async fn sync(
    core: Arc<Core>,
    batch: Vec<BotReport>,
) -> Result<Vec<Result<Synced, SchedulerError>>, SchedulerError> {
    let (synced, effects) =
        engine::sync(core.store.as_ref(), core.replica, &batch, core.options.retry).await?;
    core.apply(effects);
    Ok(synced)
}

async fn register(core: Arc<Core>, batch: Vec<Registration>) -> Result<Vec<Session>, SchedulerError> {
    let mut sessions = Vec::with_capacity(batch.len());
    for registration in &batch {
        let (session, effects) =
            engine::register(core.store.as_ref(), registration, core.options.retry).await?;
        core.apply(effects);
        sessions.push(session);
    }
    Ok(sessions)
}

async fn cancel(
    core: Arc<Core>,
    batch: Vec<OperationId>,
) -> Result<Vec<Result<(), SchedulerError>>, SchedulerError> {
    let (answers, effects) = engine::cancel(core.store.as_ref(), &batch).await?;
    core.apply(effects);
    Ok(answers)
}

async fn load_jobs(core: Arc<Core>, batch: Vec<JobId>) -> Result<Vec<Option<Arc<Job>>>, SchedulerError> {
    let found = core.store.jobs(&batch).await?;
    let found: BTreeMap<JobId, Arc<Job>> = found.into_iter().map(|job| (job.id, Arc::new(job))).collect();
    Ok(batch.iter().map(|id| found.get(id).cloned()).collect())
}

async fn load_operations(
    core: Arc<Core>,
    batch: Vec<OperationId>,
) -> Result<Vec<Option<(Operation, Arc<Job>)>>, SchedulerError> {
    let found = core.store.operations(&batch).await?;
    let found: BTreeMap<OperationId, (Operation, Arc<Job>)> =
        found.into_iter().map(|(operation, job)| (operation.id, (operation, Arc::new(job)))).collect();
    Ok(batch.iter().map(|id| found.get(id).cloned()).collect())
}
