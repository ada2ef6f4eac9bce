//! [`Observer`]: who is told what jobs go through, to count it. It decides nothing, and nothing waits for it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::core::Core;
use super::fleet::queue;
use super::loops::note;
use crate::fleet::demand::Demand;
use crate::history::Run;
use crate::job::Job;
use crate::store::Depth;

/// How often the queue is counted.
const COUNT: Duration = Duration::from_secs(15);

/// Hears of what one replica does, and of the grid's queue. Pools are named where they are declared, and empty for
/// all others: what bots say of themselves is no label.
pub trait Observer: Debug + Send + Sync {
    /// A job was given to a bot for the first time, after it waited so long.
    fn assigned(&self, pool: &str, priority: i32, waited: Duration);

    /// A lease ended.
    fn ended(&self, pool: &str, run: &Run);

    /// How many jobs wait and run in the whole grid, whichever replica is asked.
    fn counted(&self, depths: &[Depth], demand: &Demand);
}

impl Core {
    /// Tells the observer of jobs that bots of this replica were given.
    pub(super) fn observe_assigned(&self, jobs: &[&Job]) {
        let Some(observer) = &self.options.observer else { return };
        let view = self.view();
        for job in jobs.iter().filter(|job| job.state.attempts == 1) {
            let state = &job.state;
            let waited = state.started_at.unwrap_or(state.queued_at).since(state.queued_at);
            observer.assigned(view.declared_name(&state.worker_pool), state.priority, waited);
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
        match queue(&core).await {
            Ok((depths, demand)) => observer.counted(&depths, &demand),
            Err(error) => note(&error, "the queue could not be counted"),
        }
        sleep(COUNT).await;
    }
}
