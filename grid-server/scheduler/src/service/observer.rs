//! [`Observer`]: who is told what jobs go through, to count it. It decides nothing, and nothing waits for it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::core::Core;
use super::counts::Counts;
use super::fleet::queue;
use super::loops::note;
use crate::SchedulerError;
use crate::engine::{Claim, Errand, SweepKind};
use crate::history::Run;
use crate::job::Job;

/// How often the queue is counted.
const COUNT: Duration = Duration::from_secs(15);

/// A job that was given to a bot for the first time.
#[derive(Clone, Copy, Debug)]
pub struct Assigned<'a> {
    /// The bot's declared pool; empty for none.
    pub pool: &'a str,
    /// The instance that it was first asked for in.
    pub instance: &'a str,
    /// Its priority.
    pub priority: i32,
    /// How long it waited.
    pub waited: Duration,
}

/// What a replica did.
#[derive(Clone, Copy, Debug)]
pub enum SchedulerEvent<'a> {
    /// It took waiting jobs for its bots.
    Claimed {
        /// How long that took.
        took: Duration,
        /// Whether it failed.
        failed: bool,
    },
    /// It took a bot's report.
    Synchronized {
        /// How long that took, the wait for others' reports included that are taken with it.
        took: Duration,
        /// Whether it failed.
        failed: bool,
    },
    /// A job that was claimed goes out in the answer to its bot.
    Delivered {
        /// The label of what it asks for.
        label: &'a str,
        /// How long after the claim.
        took: Duration,
    },
    /// It looked for what is overdue.
    Swept {
        /// For what.
        kind: SweepKind,
        /// How many jobs there were.
        jobs: u64,
        /// How long that took.
        took: Duration,
    },
    /// A job was given to a bot that has not all that it prefers.
    SecondBest {
        /// The label of what it asks for.
        label: &'a str,
        /// The instance that it was first asked for in.
        instance: &'a str,
    },
    /// A bot that finished a job told how long a stage of it took.
    Stage {
        /// The bot's declared pool; empty for none.
        pool: &'a str,
        /// The instance that the job was first asked for in.
        instance: &'a str,
        /// The stage.
        stage: &'static str,
        /// How long it took.
        took: Duration,
    },
}

/// Hears of what one replica does, and of the grid's queue. Pools are named where they are declared, and empty for
/// all others: what bots say of themselves is no label of theirs.
pub trait Observer: Debug + Send + Sync {
    /// A job was given to a bot for the first time.
    fn assigned(&self, assigned: Assigned<'_>);

    /// A lease ended.
    fn ended(&self, pool: &str, run: &Run);

    /// How many jobs wait and run in the whole grid, whichever replica is asked, and who works on them.
    fn counted(&self, counts: &Counts);

    /// Something was done.
    fn event(&self, event: SchedulerEvent<'_>);
}

impl Core {
    /// Tells the observer, where there is one.
    pub(super) fn observe<'e>(&self, event: impl FnOnce() -> SchedulerEvent<'e>) {
        if let Some(observer) = &self.options.observer {
            observer.event(event());
        }
    }

    /// Tells the observer of jobs that bots of this replica were given.
    pub(super) fn observe_assigned(&self, jobs: &[&Job]) {
        let Some(observer) = &self.options.observer else { return };
        let view = self.view();
        for job in jobs.iter().filter(|job| job.state.attempts == 1) {
            let state = &job.state;
            let waited = state.started_at.unwrap_or(state.queued_at).since(state.queued_at);
            let (pool, instance) = (view.declared_name(&state.worker_pool), job.spec.instance.as_str());
            observer.assigned(Assigned { pool, instance, priority: state.priority, waited });
        }
    }

    /// Tells the observer of claimed jobs that would have preferred other bots.
    pub(super) fn observe_second_best(&self, claim: &Claim, errand: &Errand) {
        for (_, job) in claim.granted.iter().filter(|(_, job)| claim.second_best.contains(&job.id)) {
            let requirement = errand.requirements.get(&job.spec.requirement);
            let label = requirement.map_or("", |requirement| requirement.label.as_str());
            self.observe(|| SchedulerEvent::SecondBest { label, instance: &job.spec.instance });
        }
    }

    /// Tells the observer of jobs that a bot is answered with.
    pub(super) fn observe_delivered(&self, jobs: &[Job], took: Duration) {
        for job in jobs {
            let requirement = self.dispatcher.requirement(job.spec.requirement);
            let label = requirement.map(|requirement| requirement.label).unwrap_or_default();
            self.observe(|| SchedulerEvent::Delivered { label: &label, took });
        }
    }

    /// Tells the observer of leases that a transaction of this replica ended.
    pub(super) fn observe_ended(&self, jobs: &[Arc<Job>]) {
        let Some(observer) = &self.options.observer else { return };
        let view = self.view();
        for run in jobs.iter().flat_map(|job| &job.ended) {
            observer.ended(view.declared_name(&run.pool), run);
        }
    }
}

/// Counts the queue for the observer, for ever.
pub(super) async fn count(core: Arc<Core>, observer: Arc<dyn Observer>) {
    loop {
        match counts(&core).await {
            Ok(counts) => observer.counted(&counts),
            Err(error) => note(&error, "the queue could not be counted"),
        }
        sleep(COUNT).await;
    }
}

async fn counts(core: &Core) -> Result<Counts, SchedulerError> {
    let queue = queue(core).await?;
    let shares = match core.options.cohorts.is_empty() {
        true => Vec::new(),
        false => core.store.shares(queue.view.now.before(core.options.eviction_cooldown)).await?,
    };
    Ok(Counts::new(queue, shares, &core.options, core.replica, core.hub.watchers()))
}
