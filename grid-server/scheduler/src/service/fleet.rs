//! What operators ask of a [`Scheduler`]: pools, demand, bots, drains, jobs, and why a job waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use grid_core::Timestamp;
use tokio::sync::watch;

use super::Scheduler;
use super::core::Core;
use crate::SchedulerError;
use crate::engine::{self, DrainOrder};
use crate::fleet::demand::{self, Demand};
use crate::fleet::waits::{self, Wait, WaitQuery};
use crate::fleet::{Declaration, Drain, DrainTarget, Explanation, Verdict, View, WaitReason};
use crate::history::{Run, SizeClass, size_classes};
use crate::ids::{JobId, OperationId};
use crate::job::{Job, Stage};
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::store::{Depth, JobPage, Recent, RunQuery};

/// How far back queue times and rates look.
const RECENT: Duration = Duration::from_mins(5);
/// How many jobs they look at.
const RECENT_JOBS: u32 = 2_000;
/// How many ended leases size classes are made of, at most: the newest.
const SIZED_RUNS: u32 = 50_000;
/// How many ended leases of one job are told.
const TOLD_RUNS: u32 = 20;

/// Why an operation has not finished.
#[derive(Clone, Debug)]
pub struct Why {
    /// The job.
    pub job: Arc<Job>,
    /// Its operations, as far as they were asked for.
    pub operations: Vec<Operation>,
    /// What it asks for.
    pub requirement: Requirement,
    /// The reason.
    pub explanation: Explanation,
    /// The pool that it counts for; empty where none fits.
    pub pool: String,
    /// Jobs before it that compete for the same workers.
    pub position: u64,
    /// How long that is, by the present rate; `None` where nothing can be said.
    pub expected: Option<Duration>,
    /// When it was looked at, by the store's clock.
    pub at: Timestamp,
    /// When it ends unless something changes.
    pub fails_at: Option<Timestamp>,
    /// How each pool compares.
    pub verdicts: Vec<Verdict>,
    /// Its leases that ended, the newest first, where they were asked for.
    pub runs: Vec<Run>,
    /// Why it waited before and between them, where that was asked for.
    pub waits: Vec<Wait>,
}

/// Which jobs a list shows, beside what [`JobPage`] says.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of this instance.
    pub instance: Option<String>,
    /// Counting for, or run by, this declared pool; empty for any.
    pub pool: String,
    /// On this bot; empty for any.
    pub bot: String,
    /// Of this invocation; empty for any.
    pub invocation: String,
}

impl Scheduler {
    /// Replaces what an owner declared before; returns the revision in force.
    ///
    /// # Errors
    /// Those of [`engine::declare`].
    pub async fn declare(&self, declaration: &Declaration) -> Result<u64, SchedulerError> {
        let (revision, effects) = engine::declare(self.core.store.as_ref(), declaration).await?;
        self.core.apply(effects);
        Ok(revision)
    }

    /// The fleet, read now.
    ///
    /// # Errors
    /// The store's.
    pub async fn fleet(&self) -> Result<Arc<View>, SchedulerError> {
        self.core.read_fleet().await
    }

    /// The fleet as it changes; what it says may be seconds old.
    #[must_use]
    pub fn watch_fleet(&self) -> watch::Receiver<Arc<View>> {
        self.core.fleet.subscribe()
    }

    /// The demand for workers, read now.
    ///
    /// # Errors
    /// The store's.
    pub async fn demand(&self) -> Result<Demand, SchedulerError> {
        queue(&self.core).await.map(|queue| queue.demand)
    }

    /// What actions of each kind took of late, those that took most time in all first.
    ///
    /// # Errors
    /// The store's.
    pub async fn size_classes(&self, within: Duration) -> Result<Vec<SizeClass>, SchedulerError> {
        let now = self.core.read_fleet().await?.now;
        let query = RunQuery { since: Some(now.before(within)), limit: SIZED_RUNS, ..RunQuery::default() };
        Ok(size_classes(&self.core.store.runs(&query).await?))
    }

    /// Begins drains.
    ///
    /// # Errors
    /// Those of [`engine::drain`].
    pub async fn drain(&self, order: &DrainOrder) -> Result<Vec<Drain>, SchedulerError> {
        let (drains, effects) =
            engine::drain(self.core.store.as_ref(), order, self.core.options.retry).await?;
        self.core.apply(effects);
        Ok(drains)
    }

    /// Ends drains.
    ///
    /// # Errors
    /// The store's.
    pub async fn undrain(&self, targets: &[DrainTarget]) -> Result<(), SchedulerError> {
        let effects = engine::undrain(self.core.store.as_ref(), targets).await?;
        self.core.apply(effects);
        Ok(())
    }

    /// A page of jobs, oldest first, each with its operations and the declared pool that it counts for. The page may
    /// be shorter than asked for; where it ends is in the second part of the answer, `None` at the end of the list.
    ///
    /// # Errors
    /// The store's.
    pub async fn jobs(
        &self,
        page: &JobPage,
        filter: &JobFilter,
    ) -> Result<(Vec<Why>, Option<(Timestamp, JobId)>), SchedulerError> {
        let view = self.core.read_fleet().await?;
        let found = self.core.store.page(page).await?;
        let full = found.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
        let next = found.last().filter(|_| full).map(|(job, _)| (job.state.queued_at, job.id));
        let ids: Vec<RequirementId> = found.iter().map(|(job, _)| job.spec.requirement).collect();
        let requirements = requirements(&self.core, &ids).await?;
        let shown = found.into_iter().filter_map(|(job, operations)| {
            let requirement = requirements.get(&job.spec.requirement).cloned().unwrap_or_default();
            let why = self.glance(&view, Arc::new(job), operations, requirement);
            filter.shows(&why).then_some(why)
        });
        Ok((shown.collect(), next))
    }

    /// Why an operation has not finished. `id` may be a job's, too.
    ///
    /// # Errors
    /// [`SchedulerError::OperationNotFound`]; the store's.
    pub async fn why(&self, id: OperationId) -> Result<Why, SchedulerError> {
        let (operations, job) = match self.operations.call(id).await? {
            Some((operation, job)) => (vec![operation], job),
            None => match self.jobs.call(JobId(id.0)).await? {
                Some(job) => (Vec::new(), job),
                None => return Err(SchedulerError::OperationNotFound(id)),
            },
        };
        let view = self.core.read_fleet().await?;
        let requirement = requirements(&self.core, &[job.spec.requirement]).await?;
        let requirement = requirement.get(&job.spec.requirement).cloned().unwrap_or_default();
        let mut why = self.glance(&view, job, operations, requirement);
        let query = RunQuery { job: Some(why.job.id), limit: TOLD_RUNS, ..RunQuery::default() };
        why.runs = self.core.store.runs(&query).await?;
        let waits = self.core.store.waits(&WaitQuery::of(&why.job, view.now)).await?;
        why.waits = waits::within(&waits, &waits::windows(&why.job.state, &why.runs, view.now));
        if why.job.state.stage == Stage::Queued {
            self.place_in_line(&view, &mut why).await?;
        }
        Ok(why)
    }

    /// Everything that needs no further look at the queue.
    fn glance(
        &self,
        view: &View,
        job: Arc<Job>,
        operations: Vec<Operation>,
        requirement: Requirement,
    ) -> Why {
        let waits = job.state.stage == Stage::Queued;
        let explanation =
            if waits { crate::fleet::explain::explain(view, &requirement) } else { not_waiting(&job) };
        let placed = view.place(&requirement, job.id.0.as_u128()).map(|pool| pool.name.clone());
        let pool = if waits { placed.unwrap_or_default() } else { job.state.worker_pool.clone() };
        let refused = waits && explanation.reason == WaitReason::NoPoolFits;
        let grace = self.core.options.unplaceable_grace.filter(|_| refused);
        Why {
            operations,
            pool,
            position: 0,
            expected: None,
            at: view.now,
            fails_at: grace.map(|grace| job.state.queued_at.after(grace)),
            verdicts: view.verdicts(&requirement),
            runs: Vec::new(),
            waits: Vec::new(),
            explanation,
            requirement,
            job,
        }
    }

    /// How many are before it, and how long they take by the rate of late.
    async fn place_in_line(&self, view: &View, why: &mut Why) -> Result<(), SchedulerError> {
        let waiting = self.core.store.queued().await?;
        let known = requirements(&self.core, &waiting).await?;
        let fits: Vec<_> = view.bots_for(&why.requirement).map(|bot| bot.session.id).collect();
        let competes = |other: &Requirement| {
            let shared = view.place(other, 0).is_some_and(|pool| pool.name == why.pool);
            shared || view.bots_for(other).any(|bot| fits.contains(&bot.session.id))
        };
        let mut rivals: Vec<RequirementId> =
            known.iter().filter(|(_, other)| competes(other)).map(|(id, _)| *id).collect();
        let own = why.job.spec.requirement;
        if !rivals.contains(&own) {
            rivals.push(own);
        }
        why.position = self.core.store.ahead(&why.job, &rivals).await?;
        let recent = self.core.store.recent(view.now.before(RECENT), RECENT_JOBS).await?;
        why.expected = expected(&recent, &rivals, why.position, view.now);
        Ok(())
    }
}

/// The queue at one moment.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) view: Arc<View>,
    /// How many jobs wait and run.
    pub(super) depths: Vec<Depth>,
    /// What they ask for.
    pub(super) requirements: HashMap<RequirementId, Requirement>,
    /// The workers that they want.
    pub(super) demand: Demand,
}

/// The queue, read now.
pub(super) async fn queue(core: &Core) -> Result<Queue, SchedulerError> {
    let view = core.read_fleet().await?;
    let depths = core.store.depths().await?;
    let recent = core.store.recent(view.now.before(RECENT), RECENT_JOBS).await?;
    let ids: Vec<RequirementId> = depths.iter().map(|depth| depth.requirement).collect();
    let requirements = requirements(core, &ids).await?;
    let demand = demand::demand(&view, &depths, &requirements, &recent);
    Ok(Queue { view, depths, requirements, demand })
}

impl JobFilter {
    fn shows(&self, why: &Why) -> bool {
        let job = &why.job;
        let bot = job.state.lease.as_ref().map_or("", |lease| lease.bot_id.as_str());
        self.instance.as_ref().is_none_or(|instance| *instance == job.spec.instance)
            && (self.pool.is_empty() || self.pool == why.pool)
            && (self.bot.is_empty() || self.bot == bot)
            && (self.invocation.is_empty()
                || why.operations.iter().any(|o| o.metadata.invocation_id == self.invocation))
    }
}

fn not_waiting(job: &Job) -> Explanation {
    let text = match job.state.lease.as_ref() {
        Some(lease) => format!("It runs on {}.", lease.bot_id),
        None => "It is over.".to_owned(),
    };
    Explanation { reason: WaitReason::NotWaiting, text, mismatch: None }
}

/// The time that so many jobs take at the rate at which the last ones began; `None` where fewer than two did.
fn expected(recent: &[Recent], rivals: &[RequirementId], position: u64, now: Timestamp) -> Option<Duration> {
    let starts = recent.iter().filter(|job| rivals.contains(&job.requirement)).map(|job| job.started_at);
    let starts: Vec<Timestamp> = starts.collect();
    let first = starts.iter().min()?;
    let jobs = u32::try_from(starts.len()).ok().filter(|jobs| *jobs > 1)?;
    let each = now.since(*first) / jobs;
    Some(each.saturating_mul(u32::try_from(position.saturating_add(1)).unwrap_or(u32::MAX)))
}

/// What these requirements say: from memory, and from the store where they are not known here.
pub(super) async fn requirements(
    core: &Core,
    ids: &[RequirementId],
) -> Result<HashMap<RequirementId, Requirement>, SchedulerError> {
    let mut known = HashMap::new();
    let mut unknown = Vec::new();
    for id in ids {
        match core.dispatcher.requirement(*id) {
            Some(requirement) => drop(known.insert(*id, requirement)),
            None => unknown.push(*id),
        }
    }
    if !unknown.is_empty() {
        let read = core.store.requirements(&unknown).await?;
        core.dispatcher.learn(read.iter().cloned());
        known.extend(read.into_iter().map(|requirement| (requirement.id(), requirement)));
    }
    Ok(known)
}
