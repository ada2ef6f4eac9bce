//! [`Health`]: whether the worker may take work, looked at from time to time.
//!
//! A worker without its runner or with a full disk would fail one action after the other, faster than any
//! healthy one succeeds; so it takes none, and says why. Neighbours: `probe` proves the runner, `bot` tells
//! the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bot::Fate;
use crate::disk::Disks;
use crate::execute::Executor;
use crate::execute::janitor::Janitor;
use crate::memory;
use crate::metrics::Metrics;
use crate::probe::{self, Probe};

/// How often a worker that is well is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often one that isn't.
const UNWELL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the runner may take to say that it is there.
const RUNNER_PATIENCE: Duration = Duration::from_secs(5);

/// So many actions that fail for the worker's own reasons, one after the other, make it unhealthy.
const FAULTS_IN_A_ROW: usize = 3;

/// Watches one worker.
#[derive(Debug)]
pub struct Health {
    fate: watch::Sender<Fate>,
    executor: Arc<Executor>,
    metrics: Arc<Metrics>,
    janitor: Janitor,
    disks: Disks,
    memory_reserve: Option<u64>,
    probe: Probe,
}

impl Health {
    /// A watcher that hasn't looked yet.
    #[must_use]
    pub fn new(
        fate: watch::Sender<Fate>,
        executor: Arc<Executor>,
        metrics: Arc<Metrics>,
        janitor: Janitor,
        disks: Disks,
        memory_reserve: Option<u64>,
        probe: Probe,
    ) -> Self {
        Self { fate, executor, metrics, janitor, disks, memory_reserve, probe }
    }

    /// Looks until the worker leaves.
    pub async fn watch(self) {
        let mut pause = Duration::ZERO;
        let mut faults = self.executor.faults.announcements();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = faults.changed() => {}
            }
            let raised = *faults.borrow_and_update();
            let trouble = self.trouble().await;
            pause = if trouble.is_none() { INTERVAL } else { UNWELL_INTERVAL };
            self.metrics.healthy.set(i64::from(trouble.is_none()));
            self.measure();
            self.recheck();
            let next = trouble.map_or(Fate::Healthy, Fate::Unhealthy);
            let mut left = false;
            self.fate.send_if_modified(|fate| {
                left = fate.is_final();
                let changes = !left && *fate != next;
                if changes {
                    fate.clone_from(&next);
                }
                changes
            });
            self.executor.faults.looked(raised);
            if left {
                return;
            }
        }
    }

    /// What keeps the worker from taking work.
    async fn trouble(&self) -> Option<String> {
        if let Some(trouble) = self.disks.trouble(&self.executor.cache, &self.executor.spares).await {
            return Some(trouble);
        }
        if let Some(trouble) = memory::trouble(self.memory_reserve) {
            // They are what can be done without; the next look tells whether it was enough.
            self.executor.residents.give_up();
            return Some(trouble);
        }
        let failed = self.executor.faults.in_a_row();
        if failed >= FAULTS_IN_A_ROW {
            // The next look asks for a proof.
            self.executor.faults.clear();
            return Some(format!("{failed} actions in a row failed for the worker's own reasons"));
        }
        // A worker that was unhealthy has to prove itself anew; else it is enough that the runner is there.
        let unwell = matches!(&*self.fate.borrow(), Fate::Unhealthy(_));
        if unwell {
            let proof = probe::prove(&self.probe, &self.executor.runner, &self.executor.workspaces).await;
            return proof.err().map(|error| error.to_string());
        }
        let check = self.executor.runner.check(std::path::Path::new(""));
        match tokio::time::timeout(RUNNER_PATIENCE, check).await {
            Ok(answer) => answer.err().map(|error| error.to_string()),
            Err(_) => Some(format!("the runner says nothing for {} s", RUNNER_PATIENCE.as_secs())),
        }
    }

    /// Reads one of the cached files again; nobody waits for it.
    fn recheck(&self) {
        let (cache, spares) = (self.executor.cache.clone(), self.executor.spares.clone());
        let residents = self.executor.residents.clone();
        let metrics = self.metrics.clone();
        tokio::task::spawn_blocking(move || {
            if let Some(file) = cache.recheck() {
                tracing::error!(file, "a cached file had changed and was dropped");
                // Trees on disk hold links to it.
                spares.forget();
                residents.give_up();
                metrics.cache_corrupt.inc();
            }
        });
    }

    fn measure(&self) {
        let (bytes, files) = self.executor.cache.usage();
        self.metrics.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.cache_files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.metrics.remains.set(i64::try_from(self.janitor.left()).unwrap_or(i64::MAX));
    }
}
