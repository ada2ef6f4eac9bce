//! [`Cleaner`]: keeps one indexed storage within its bounds, once or for as long as the process lives.
//!
//! `cleanup` runs cleaners, and so does `serve` where its configuration has a `cleanup`. Any number may be at work on one
//! storage: no two delete the same blob. What may be deleted is [`grid_cas::cleanup`]'s business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_cas::buildgrid::BuildGrid;
use grid_cas::cleanup::{Policy, Progress, Report, clean};
use grid_cas::index::{BlobIndex, IndexClock};
use grid_cas::{SharedStore, StoreError};
use grid_core::SystemClock;
use grid_telemetry::cleanup::CleanupMetrics;
use parking_lot::Mutex;

/// How often a pass that takes long says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a server waits between two passes, as BuildGrid does.
pub(crate) const INTERVAL: Duration = Duration::from_secs(20);

/// What one element of `cleanup` says.
#[derive(Clone, Debug)]
pub(crate) struct Cleaner {
    /// The name in logs and metrics.
    pub(crate) name: String,
    /// What is looked at.
    pub(crate) index: Arc<dyn BlobIndex>,
    /// What is deleted from.
    pub(crate) storage: SharedStore,
    /// When, what and how much.
    pub(crate) policy: Policy,
    /// What BuildGrid may have beside the index.
    pub(crate) buildgrid: Option<BuildGrid>,
    /// Whether to delete while BuildGrid uses the storage, and from its index too.
    pub(crate) shared: bool,
}

impl Cleaner {
    /// One pass.
    pub(crate) async fn pass(&self, metrics: &CleanupMetrics) -> Result<Report, StoreError> {
        let began = Instant::now();
        let told = Mutex::new(began);
        let tell = |progress: &Progress| {
            metrics.deleted(&self.name, progress.took);
            let mut told = told.lock();
            if told.elapsed() >= TELL_EVERY {
                *told = Instant::now();
                tracing::info!(
                    name = self.name,
                    deleted_bytes = progress.deleted.bytes,
                    deleted_blobs = progress.deleted.blobs,
                    remaining_bytes = progress.remaining.bytes,
                    target_bytes = progress.target.bytes,
                    "cleaning"
                );
            }
        };
        let cleaned = async {
            let index = self.index().await?;
            let clock = IndexClock::of(&*index, Arc::new(SystemClock)).await?;
            clean(&*index, &self.storage, &self.policy, &clock, &tell).await
        };
        let report = cleaned.await;
        metrics.passed(&self.name, &self.policy, report.as_ref().ok(), began.elapsed());
        report
    }

    /// The index as those see it who delete.
    async fn index(&self) -> Result<Arc<dyn BlobIndex>, StoreError> {
        match &self.buildgrid {
            Some(buildgrid) => buildgrid.guard(&self.index, self.shared).await,
            None => Ok(Arc::clone(&self.index)),
        }
    }
}

/// Makes passes for ever; says what those did that did something.
pub(crate) async fn keep(cleaners: Vec<Cleaner>, metrics: CleanupMetrics, interval: Duration) {
    if cleaners.is_empty() {
        return;
    }
    loop {
        for cleaner in &cleaners {
            match cleaner.pass(&metrics).await {
                Ok(report) if report.deleted.blobs > 0 || report.kept.is_some() => {
                    tracing::info!("{}: {report}", cleaner.name);
                }
                Ok(report) => tracing::debug!("{}: {report}", cleaner.name),
                Err(error) => tracing::error!(name = cleaner.name, %error, "a pass of cleanup failed"),
            }
        }
        tokio::time::sleep(interval).await;
    }
}
