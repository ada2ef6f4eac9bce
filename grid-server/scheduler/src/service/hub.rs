//! [`Hub`]: who on this replica watches which operation. News of a job is given to all its watchers at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::fleet::Explanation;
use crate::ids::{JobId, OperationId};
use crate::job::{Job, Stage};
use crate::operation::Operation;
use crate::properties::RequirementId;

/// What a watcher sees.
#[derive(Clone, Debug)]
pub struct View {
    /// The job.
    pub job: Arc<Job>,
    /// Whether the operation, as opposed to its job, was cancelled.
    pub cancelled: bool,
    /// Why the job waits, where that can't end by itself soon.
    pub waiting: Option<Arc<Explanation>>,
}

impl View {
    /// Whether nothing more will come.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.cancelled || self.job.state.stage == Stage::Completed
    }

    fn waits(&self) -> bool {
        !self.cancelled && self.job.state.stage == Stage::Queued
    }
}

/// A watcher's end. Dropping it ends the watching, and nothing else.
#[derive(Debug)]
pub struct Watch {
    /// The operation watched.
    pub operation: Operation,
    views: watch::Receiver<View>,
    hub: Arc<Hub>,
}

impl Watch {
    /// What is known now; [`Watch::changed`] waits for what comes after it.
    pub fn view(&mut self) -> View {
        self.views.borrow_and_update().clone()
    }

    /// Waits until there is something newer than the last [`Watch::view`].
    pub async fn changed(&mut self) {
        if self.views.changed().await.is_err() {
            // The hub holds the sender for as long as a watch exists.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.leave(self.operation.id);
    }
}

/// The watchers of one replica.
#[derive(Debug, Default)]
pub(super) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    operations: HashMap<OperationId, Watched>,
    jobs: HashMap<JobId, HashSet<OperationId>>,
}

#[derive(Debug)]
struct Watched {
    views: watch::Sender<View>,
    watchers: usize,
    /// Whether its row is known to be there: until then a look at the rows that misses it says nothing.
    committed: bool,
}

impl Hub {
    /// Begins to watch an operation, of which this much is known. One that is not committed yet is to be
    /// confirmed once it is.
    pub(super) fn watch(self: &Arc<Self>, operation: Operation, job: Arc<Job>, committed: bool) -> Watch {
        let mut state = self.state.lock();
        state.jobs.entry(job.id).or_default().insert(operation.id);
        let view = View { job, cancelled: operation.cancelled, waiting: None };
        let watched = state.operations.entry(operation.id).or_insert_with(|| Watched {
            views: watch::Sender::new(view),
            watchers: 0,
            committed,
        });
        watched.watchers += 1;
        Watch { operation, views: watched.views.subscribe(), hub: Arc::clone(self) }
    }

    /// The operation's row is there.
    pub(super) fn confirm(&self, operation: OperationId) {
        if let Some(watched) = self.state.lock().operations.get_mut(&operation) {
            watched.committed = true;
        }
    }

    fn leave(&self, operation: OperationId) {
        let mut state = self.state.lock();
        let Some(watched) = state.operations.get_mut(&operation) else { return };
        watched.watchers -= 1;
        if watched.watchers > 0 {
            return;
        }
        let job = watched.views.borrow().job.id;
        state.operations.remove(&operation);
        if let Some(others) = state.jobs.get_mut(&job) {
            others.remove(&operation);
            if others.is_empty() {
                state.jobs.remove(&job);
            }
        }
    }

    /// Tells the watchers of a job what became of it. A completed job stays as it is.
    pub(super) fn publish(&self, job: &Arc<Job>) {
        let state = self.state.lock();
        for operation in state.jobs.get(&job.id).into_iter().flatten() {
            if let Some(watched) = state.operations.get(operation) {
                watched.views.send_if_modified(|view| {
                    let news = view.job.state.stage != Stage::Completed && view.job.state != job.state;
                    if news {
                        view.job = Arc::clone(job);
                        view.waiting = view.waiting.take().filter(|_| job.state.stage == Stage::Queued);
                    }
                    news
                });
            }
        }
    }

    /// How many watchers there are here, by the instance that the job was first asked for in.
    pub(super) fn watchers(&self) -> BTreeMap<String, u64> {
        let mut watchers = BTreeMap::new();
        for watched in self.state.lock().operations.values() {
            let instance = watched.views.borrow().job.spec.instance.clone();
            *watchers.entry(instance).or_default() += watched.watchers as u64;
        }
        watchers
    }

    /// The requirements of the jobs that wait and are watched here.
    pub(super) fn waiting(&self) -> HashSet<RequirementId> {
        let state = self.state.lock();
        let views = state.operations.values().map(|watched| watched.views.borrow());
        views.filter(|view| view.waits()).map(|view| view.job.spec.requirement).collect()
    }

    /// Tells the watchers of jobs that wait why they do. Requirements that are not named have nothing to say.
    pub(super) fn explain(&self, reasons: &HashMap<RequirementId, Arc<Explanation>>) {
        let state = self.state.lock();
        for watched in state.operations.values() {
            watched.views.send_if_modified(|view| {
                let reason = reasons.get(&view.job.spec.requirement);
                let news = view.waits() && view.waiting.as_ref() != reason;
                if news {
                    view.waiting = reason.cloned();
                }
                news
            });
        }
    }

    /// Tells the watchers of operations that these were cancelled.
    pub(super) fn cancel(&self, operations: &[OperationId]) {
        let state = self.state.lock();
        for watched in operations.iter().filter_map(|id| state.operations.get(id)) {
            watched.views.send_if_modified(|view| {
                let news = !view.is_final();
                view.cancelled |= news;
                news
            });
        }
    }

    /// Those of these jobs that somebody here watches.
    pub(super) fn watched(&self, ids: &[JobId]) -> Vec<JobId> {
        let state = self.state.lock();
        ids.iter().filter(|id| state.jobs.contains_key(id)).copied().collect()
    }

    /// Every committed operation that somebody here watches and that is not over.
    pub(super) fn open(&self) -> Vec<(OperationId, JobId)> {
        let state = self.state.lock();
        let open = |(id, watched): (&OperationId, &Watched)| {
            let view = watched.views.borrow();
            (watched.committed && !view.is_final()).then_some((*id, view.job.id))
        };
        state.operations.iter().filter_map(open).collect()
    }
}
