//! The rows of a simulated database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grid_core::Timestamp;

use crate::fleet::{Declaration, Drain, DrainTarget, FleetRows, Wait, WaitQuery};
use crate::history::Run;
use crate::ids::{JobId, OperationId, SessionId};
use crate::job::{Job, Stage};
use crate::metadata::{METADATA_FIELDS, Summary, SummaryQuery, Values, ValuesQuery, without_action};
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::quota::{Quota, Share};
use crate::session::Session;
use crate::store::{Depth, FlowKey, JobPage, Overdue, Recent, RunQuery};

/// Every row, by key.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Jobs; shared, so that a transaction's copy of the rows costs little.
    pub jobs: BTreeMap<JobId, Arc<Job>>,
    /// Operations.
    pub operations: BTreeMap<OperationId, Arc<Operation>>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Requirements, and when each was asked for last.
    pub requirements: BTreeMap<RequirementId, (Requirement, Timestamp)>,
    /// Turns.
    pub turns: BTreeMap<FlowKey, i64>,
    /// What owners declared.
    pub declarations: BTreeMap<String, Declaration>,
    /// Drains.
    pub drains: BTreeMap<DrainTarget, Drain>,
    /// Leases that ended.
    pub runs: BTreeMap<(JobId, u32), Run>,
    /// Why jobs waited.
    pub waits: Vec<Wait>,
    /// Quotas, by cohort and instance.
    pub quotas: BTreeMap<(String, String), Quota>,
    /// Whose leases were taken for others, by cohort and instance, and when.
    pub evictions: Vec<((String, String), Timestamp)>,
    /// When pools were last wanted and full.
    pub wakeups: BTreeMap<String, u64>,
}

impl Tables {
    /// Pools, drains and bots.
    #[must_use]
    pub fn fleet(&self, now: Timestamp) -> FleetRows {
        let leases = |id| self.jobs.values().filter(|job| job.session() == Some(id)).count();
        let bot =
            |session: &Session| (session.clone(), u32::try_from(leases(session.id)).unwrap_or(u32::MAX));
        FleetRows {
            now,
            declarations: self.declarations.values().cloned().collect(),
            drains: self.drains.values().cloned().collect(),
            bots: self.sessions.values().map(|session| bot(session)).collect(),
            wakeups: self.wakeups.clone(),
        }
    }

    /// Quotas and how they stand.
    #[must_use]
    pub fn shares(&self, evicted_since: Timestamp) -> Vec<Share> {
        let held = |quota: &Quota| {
            let lease = |job: &&Arc<Job>| {
                let cohort = job.state.lease.as_ref().map(|lease| &lease.cohort);
                cohort == Some(&quota.cohort) && job.spec.instance == quota.instance
            };
            self.jobs.values().filter(lease).count()
        };
        let taken = |key: &(String, String)| {
            self.evictions.iter().filter(|(of, at)| of == key && *at > evicted_since).count()
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let share = |(key, quota): (&(String, String), &Quota)| Share {
            quota: quota.clone(),
            used: count(held(quota)),
            evicted: count(taken(key)),
        };
        self.quotas.iter().map(share).collect()
    }

    /// Jobs that run or ended after a moment.
    #[must_use]
    pub fn recent(&self, since: Timestamp, limit: usize) -> Vec<Recent> {
        let read = |job: &Job| {
            Some(Recent {
                requirement: job.spec.requirement,
                worker_pool: job.state.worker_pool.clone(),
                queued_at: job.state.queued_at,
                started_at: job.state.started_at?,
                completed_at: job.state.completed_at,
            })
        };
        let recent = self
            .jobs
            .values()
            .filter_map(|job| read(job))
            .filter(|j| j.completed_at.is_none_or(|at| at > since));
        recent.take(limit).collect()
    }

    /// The values that operations have in a field of what was told of them.
    #[must_use]
    pub fn metadata_values(&self, query: &ValuesQuery) -> Values {
        let part = query.part.to_ascii_lowercase();
        let mine = self.operations.values().filter(|operation| operation.instance == query.instance);
        let values: BTreeSet<&str> = mine
            .map(|operation| query.field.of(&operation.metadata))
            .filter(|value| !value.is_empty() && value.to_ascii_lowercase().contains(&part))
            .collect();
        let skip = usize::try_from(query.skip).unwrap_or(usize::MAX);
        Values {
            total: values.len() as u64,
            values: values.into_iter().skip(skip).take(query.limit as usize).map(str::to_owned).collect(),
        }
    }

    /// What became of the operations that have a value in a field of what was told of them.
    #[must_use]
    pub fn metadata_summary(&self, query: &SummaryQuery) -> Summary {
        let (mut summary, mut told) = (Summary::default(), BTreeMap::new());
        let mine = self.operations.values().filter(|operation| {
            let value = query.field.of(&operation.metadata);
            operation.instance == query.instance && value == query.value && !value.is_empty()
        });
        for operation in mine {
            if let Some(job) = self.jobs.get(&operation.job) {
                summary.count(job);
            }
            let metadata = without_action(operation);
            let order = METADATA_FIELDS.map(|(_, field)| field.of(&metadata).to_owned());
            told.insert(order, metadata);
        }
        summary.metadata = told.into_values().take(query.limit as usize).collect();
        summary
    }

    /// Leases that ended, the newest first.
    #[must_use]
    pub fn runs(&self, query: &RunQuery) -> Vec<Run> {
        let asked = |run: &&Run| {
            query.job.is_none_or(|job| job == run.job) && query.since.is_none_or(|since| run.ended_at > since)
        };
        let mut runs: Vec<Run> = self.runs.values().filter(asked).cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse((run.ended_at, run.job, run.attempt)));
        runs.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        runs
    }

    /// Why jobs waited, the newest first.
    #[must_use]
    pub fn waits(&self, query: &WaitQuery) -> Vec<Wait> {
        let mut waits: Vec<Wait> = self.waits.iter().filter(|wait| query.matches(wait)).cloned().collect();
        waits.sort_by_key(|wait| std::cmp::Reverse((wait.since, wait.until)));
        waits.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        waits
    }

    /// Inserts spans of waits, or moves their ends on.
    pub(super) fn save_waits(&mut self, waits: &[Wait]) {
        let same =
            |a: &Wait, b: &Wait| (a.requirement, a.reason, a.since) == (b.requirement, b.reason, b.since);
        self.waits.retain(|old| !waits.iter().any(|new| same(old, new)));
        self.waits.extend_from_slice(waits);
    }

    /// Writes a job's state, and its leases that ended.
    pub(super) fn save(&mut self, job: &Job) {
        self.runs.extend(job.ended.iter().map(|run| ((run.job, run.attempt), run.clone())));
        self.jobs.insert(job.id, Arc::new(Job { ended: Vec::new(), closed: Vec::new(), ..job.clone() }));
    }

    /// A page of jobs with their operations.
    #[must_use]
    pub fn page(&self, page: &JobPage) -> Vec<(Job, Vec<Operation>)> {
        let key = |job: &Job| (job.state.queued_at, job.id);
        let shown = |job: &&Job| {
            page.stages.contains(&job.state.stage)
                && page.until.is_none_or(|until| job.state.queued_at <= until)
                && page.after.is_none_or(|after| key(job) > after)
        };
        let mut jobs: Vec<&Job> = self.jobs.values().map(AsRef::as_ref).filter(shown).collect();
        jobs.sort_by_key(|job| key(job));
        jobs.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
        let of = |job: &Job| {
            let own = self.operations.values().filter(|operation| operation.job == job.id);
            own.map(|operation| operation.as_ref().clone()).collect()
        };
        jobs.into_iter().map(|job| (job.clone(), of(job))).collect()
    }

    /// How many waiting jobs with these requirements come before one.
    #[must_use]
    pub fn ahead(&self, job: &Job, requirements: &[RequirementId]) -> u64 {
        let key = |job: &Job| (job.state.priority, job.state.turn, job.state.queued_at, job.id);
        let before = |other: &&Job| {
            let rival = requirements.contains(&other.spec.requirement);
            other.state.stage == Stage::Queued && rival && key(other) < key(job)
        };
        self.jobs.values().map(AsRef::as_ref).filter(before).count() as u64
    }

    /// How many jobs wait and run, by requirement.
    #[must_use]
    pub fn depths(&self) -> Vec<Depth> {
        let mut depths: BTreeMap<RequirementId, Depth> = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.state.stage != Stage::Completed) {
            let requirement = job.spec.requirement;
            let empty = Depth { requirement, queued: 0, executing: 0, oldest: None };
            let depth = depths.entry(requirement).or_insert(empty);
            if job.state.stage == Stage::Queued {
                depth.queued += 1;
                let at = job.state.queued_at;
                depth.oldest = Some(depth.oldest.map_or(at, |oldest| oldest.min(at)));
            } else {
                depth.executing += 1;
            }
        }
        depths.into_values().collect()
    }
}

/// Whether a sweep at `now` that looks for this finds the job.
pub(super) fn is_overdue(job: &Job, overdue: &Overdue, now: Timestamp) -> bool {
    let state = &job.state;
    match overdue {
        Overdue::Executing(since) => {
            state.stage == Stage::Executing && state.started_at.is_some_and(|at| at < *since)
        }
        Overdue::OwnTimeout(grace) => {
            let timeout = job.spec.timeout_micros.zip(state.started_at);
            let end = timeout.map(|(timeout, start)| Timestamp(start.0.saturating_add(timeout)));
            state.stage == Stage::Executing && end.is_some_and(|end| end < now.before(*grace))
        }
        Overdue::QueuedWith(requirement, since) => {
            state.stage == Stage::Queued && state.queued_at < *since && job.spec.requirement == *requirement
        }
        Overdue::Queued(instances, since) => {
            let asked = instances.is_empty() || instances.contains(&job.spec.instance);
            asked && state.stage == Stage::Queued && state.queued_at < *since
        }
        Overdue::Unwatched(since) => state.stage != Stage::Completed && state.watched_until < *since,
    }
}
