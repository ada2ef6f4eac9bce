//! [`Core`]: what the parts of one replica share, and how the effects of a transaction reach those who wait.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::dispatcher::Dispatcher;
use super::hub::Hub;
use super::options::SchedulerOptions;
use crate::engine::{Effects, Undelivered};
use crate::ids::{JobId, ReplicaId};
use crate::job::{Job, Stage};
use crate::store::QueueStore;

/// What the parts of one replica share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: SchedulerOptions,
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) replica: ReplicaId,
    pub(super) hub: Arc<Hub>,
    pub(super) dispatcher: Dispatcher,
    /// Jobs that bots of this replica run: a shortcut past the store, never the last word.
    running: Mutex<HashMap<JobId, Arc<Job>>>,
}

impl Core {
    pub(super) fn new(
        options: SchedulerOptions,
        store: Arc<dyn QueueStore>,
        replica: ReplicaId,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Undelivered>) {
        let (dispatcher, returned) = Dispatcher::new();
        let (hub, running) = (Arc::default(), Mutex::default());
        (Arc::new(Self { options, store, replica, hub, dispatcher, running }), returned)
    }

    /// Wakes those on this replica whom a committed transaction concerns.
    pub(super) fn apply(&self, effects: Effects) {
        let mut running = self.running.lock();
        for job in &effects.jobs {
            if job.state.stage == Stage::Executing {
                running.insert(job.id, Arc::clone(job));
            } else {
                running.remove(&job.id);
            }
        }
        drop(running);
        for job in &effects.jobs {
            self.hub.publish(job);
        }
        self.hub.cancel(&effects.cancelled);
        self.dispatcher.queued(effects.queued);
        self.dispatcher.resync(effects.sessions);
    }

    /// A job that runs, as far as this replica has heard.
    pub(super) fn running(&self, id: JobId) -> Option<Arc<Job>> {
        self.running.lock().get(&id).cloned()
    }

    /// Another replica changed these jobs: what is known of them here may be old.
    pub(super) fn forget(&self, ids: &[JobId]) {
        let mut running = self.running.lock();
        for id in ids {
            running.remove(id);
        }
    }
}
