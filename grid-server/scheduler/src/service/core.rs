//! [`Core`]: what the parts of one replica share, and how the effects of a transaction reach those who wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::dispatcher::Dispatcher;
use super::hub::Hub;
use super::options::SchedulerOptions;
use super::streams::OpenStreams;
use crate::SchedulerError;
use crate::engine::{Effects, Undelivered};
use crate::fleet::View;
use crate::ids::{JobId, ReplicaId};
use crate::job::{Job, Stage};
use crate::properties::RequirementId;
use crate::store::QueueStore;

/// What the parts of one replica share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: SchedulerOptions,
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) replica: ReplicaId,
    pub(super) hub: Arc<Hub>,
    pub(super) dispatcher: Dispatcher,
    /// The fleet as last read; it may be seconds old.
    pub(super) fleet: watch::Sender<Arc<View>>,
    /// How many readings of the fleet have begun, and the number of the one that is shown.
    begun: AtomicU64,
    shown: AtomicU64,
    /// The fleet has changed and is to be read again.
    pub(super) fleet_changed: Notify,
    /// Something changed that may be why jobs wait.
    pub(super) waiting_changed: Notify,
    /// What jobs ask for that came here since this was looked at last.
    arrived: Mutex<HashSet<RequirementId>>,
    /// Jobs that bots of this replica run: a shortcut past the store, never the last word.
    running: Mutex<HashMap<JobId, Arc<Job>>>,
    pub(super) streams: OpenStreams,
    instance_pools: BTreeMap<String, String>,
}

impl Core {
    pub(super) fn new(
        options: SchedulerOptions,
        store: Arc<dyn QueueStore>,
        replica: ReplicaId,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Undelivered>) {
        let (dispatcher, returned) = Dispatcher::new(options.locality_hints, options.aged_percent);
        let core = Self {
            instance_pools: options.pools(),
            options,
            store,
            replica,
            hub: Arc::default(),
            dispatcher,
            fleet: watch::Sender::new(Arc::default()),
            begun: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            fleet_changed: Notify::new(),
            waiting_changed: Notify::new(),
            arrived: Mutex::default(),
            running: Mutex::default(),
            streams: OpenStreams::default(),
        };
        (Arc::new(core), returned)
    }

    /// The pool that an instance belongs to: itself, unless the configuration groups it with others.
    pub(super) fn pool<'a>(&'a self, instance: &'a str) -> &'a str {
        self.instance_pools.get(instance).map_or(instance, String::as_str)
    }

    /// The fleet as last read.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.fleet.borrow())
    }

    /// Reads the fleet, and has the bots that wait here offer themselves anew where the pools are others. A
    /// reading that began before the one that is shown, and took longer, is for its caller alone.
    pub(super) async fn read_fleet(&self) -> Result<Arc<View>, SchedulerError> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let rows = self.store.fleet().await?;
        let view = Arc::new(View::new(rows, |instance| self.pool(instance).to_owned()));
        let mut pools_changed = false;
        let is_news = self.fleet.send_if_modified(|shown| {
            // Nobody else is here meanwhile.
            if self.shown.fetch_max(number, Ordering::Relaxed) > number {
                return false;
            }
            pools_changed = shown.declarations != view.declarations;
            shown.clone_from(&view);
            true
        });
        if pools_changed {
            self.dispatcher.resync_all();
        }
        if is_news {
            self.waiting_changed.notify_one();
        }
        Ok(view)
    }

    /// Wakes those on this replica whom a committed transaction concerns.
    pub(super) fn apply(&self, effects: Effects) {
        self.observe_ended(&effects.jobs);
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
            self.streams.changed(job);
            self.hub.publish(job);
        }
        self.hub.cancel(&effects.cancelled);
        if effects.fleet {
            self.fleet_changed.notify_one();
        }
        if !effects.queued.is_empty() {
            self.waiting_changed.notify_one();
        }
        self.dispatcher.queued(effects.queued);
        if effects.fleet || effects.jobs.iter().any(|job| !job.ended.is_empty()) {
            self.dispatcher.reconsider();
        }
        self.dispatcher.resync(effects.sessions);
    }

    /// Jobs with these requirements came.
    pub(super) fn arrive(&self, requirements: impl IntoIterator<Item = RequirementId>) {
        self.arrived.lock().extend(requirements);
    }

    /// What jobs ask for that came since the last call.
    pub(super) fn arrived(&self) -> HashSet<RequirementId> {
        std::mem::take(&mut *self.arrived.lock())
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
