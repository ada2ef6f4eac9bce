//! [`sweep`] deletes orphans: blobs of a storage that its index does not know, left by writers that died, by deletions
//! that failed, or by a server whose index was lost. Uploads that were never finished go with them.
//!
//! A blob that is being stored is unknown to the index for a while: so only what is older than a minimum is an orphan,
//! and each is claimed before it is deleted. A writer that stores the same blob meanwhile waits for the claim: before it
//! stores, or, if it came first, when it notes the blob; then it looks whether that is still there.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures::TryStreamExt;
use grid_core::{Clock, Digest};
use tokio::time::Instant;

use crate::content::{self, DigestSet};
use crate::fsck::Indexed;
use crate::index::Totals;
use crate::{Inventory, StoreError};

/// How many blobs are deleted at a time.
const BATCH: usize = 1_000;
/// How long a claim lasts.
const CLAIM: Duration = Duration::from_secs(60);
/// After this, nothing of a claim is deleted any more.
const DELETE_WITHIN: Duration = Duration::from_secs(30);

/// What a sweep does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What was written more recently than this is no orphan (`--min-age`).
    pub min_age: Duration,
    /// How long a claim is kept after the deletion: longer than a writer takes from storing a blob to noting it.
    pub hold: Duration,
    /// Only tell what would be deleted.
    pub dry_run: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { min_age: Duration::from_secs(24 * 3600), hold: Duration::from_secs(10), dry_run: false }
    }
}

/// What a sweep found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the storage holds.
    pub stored: Totals,
    /// What the index does not know, but is too young to tell.
    pub young: Totals,
    /// What is an orphan.
    pub orphans: Totals,
    /// What of that was deleted.
    pub deleted: Totals,
    /// What of that could not be deleted.
    pub failed: Totals,
    /// How many unfinished uploads were given up, or would be.
    pub abandoned: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, young, orphans, deleted, failed, abandoned } = self;
        write!(
            f,
            "the storage holds {stored}, of which the index does not know {orphans} ({deleted} deleted"
        )?;
        if failed.blobs > 0 {
            write!(f, ", failed to delete {failed}")?;
        }
        write!(f, "), and {young} that are too young to tell")?;
        match abandoned {
            0 => Ok(()),
            abandoned => write!(f, "; {abandoned} uploads were never finished, and are given up"),
        }
    }
}

/// Looks through all backends once; `tell` hears of each orphan that was deleted, and how old it was.
///
/// # Errors
/// The trouble of the index or of a backend's listing. A blob that can't be deleted is no error: it is counted.
pub async fn sweep(
    what: &Indexed,
    clock: &dyn Clock,
    options: Options,
    tell: &(dyn Fn(&Digest, Duration) + Sync),
) -> Result<Report, StoreError> {
    let mut sweep = Sweep { what, clock, options, tell, report: Report::default(), held: VecDeque::new() };
    for backend in &what.backends {
        sweep.look_through(&**backend).await?;
        let before = clock.now().before(options.min_age);
        sweep.report.abandoned += backend.abandon(before, options.dry_run).await?;
    }
    sweep.let_go(true).await?;
    Ok(sweep.report)
}

/// Claims on what was deleted.
struct Held {
    since: Instant,
    until: grid_core::Timestamp,
    digests: Vec<Digest>,
}

struct Sweep<'a> {
    what: &'a Indexed,
    clock: &'a dyn Clock,
    options: Options,
    tell: &'a (dyn Fn(&Digest, Duration) + Sync),
    report: Report,
    held: VecDeque<Held>,
}

impl Sweep<'_> {
    async fn look_through(&mut self, backend: &dyn Inventory) -> Result<(), StoreError> {
        let mut pages = backend.list();
        while let Some(page) = pages.try_next().await? {
            for window in page.chunks(BATCH) {
                let digests: Vec<Digest> = window.iter().map(|stored| stored.digest).collect();
                self.report.stored = self.report.stored.plus(Totals::of(&digests));
                let noted = self.what.index.noted(&digests).await?;
                let oldest = self.clock.now().before(self.options.min_age);
                let unknown = |old: bool| -> Vec<Digest> {
                    let unknown = window.iter().filter(|stored| !noted.contains(&stored.digest));
                    unknown
                        .filter(|stored| (stored.since <= oldest) == old)
                        .map(|stored| stored.digest)
                        .collect()
                };
                let (old, young) = (unknown(true), unknown(false));
                self.report.young = self.report.young.plus(Totals::of(&young));
                self.report.orphans = self.report.orphans.plus(Totals::of(&old));
                if !self.options.dry_run && !old.is_empty() {
                    self.delete(backend, &old).await?;
                }
            }
        }
        Ok(())
    }

    async fn delete(&mut self, backend: &dyn Inventory, orphans: &[Digest]) -> Result<(), StoreError> {
        let (index, now) = (&self.what.index, self.clock.now());
        let until = now.after(CLAIM);
        let claimed: Vec<Digest> = index.adopt(orphans, now, until).await?.into_iter().collect();
        // Asked again under the claim: what a writer stored since it was listed is young now.
        let oldest = now.before(self.options.min_age);
        let stored = backend.stored(&claimed).await?;
        let old: DigestSet = stored.iter().filter(|s| s.since <= oldest).map(|s| s.digest).collect();
        let (old, young): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|digest| old.contains(digest));
        index.forget(&young, until).await?;
        let Ok(answers) = tokio::time::timeout(DELETE_WITHIN, backend.delete(&old)).await else {
            tracing::error!("a storage took too long to delete orphans; cleanup will see to them");
            self.report.failed = self.report.failed.plus(Totals::of(&old));
            return Ok(());
        };
        let failed: DigestSet = old
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_err())
            .map(|(digest, _)| *digest)
            .collect();
        if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            tracing::error!(%error, "orphans could not be deleted; cleanup will see to them");
        }
        let gone = content::missing_of(&old, |digest| failed.contains(digest));
        for orphan in stored.iter().filter(|stored| gone.contains(&stored.digest)) {
            (self.tell)(&orphan.digest, now.since(orphan.since));
        }
        self.report.failed = self.report.failed.plus(Totals::of(&failed));
        self.report.deleted = self.report.deleted.plus(Totals::of(&gone));
        self.held.push_back(Held { since: Instant::now(), until, digests: gone });
        self.let_go(false).await
    }

    /// Gives up the claims that were held for long enough; at the end it waits until that is all of them.
    async fn let_go(&mut self, all: bool) -> Result<(), StoreError> {
        while let Some(held) = self.held.front() {
            let due = held.since + self.options.hold;
            if !all && due > Instant::now() {
                break;
            }
            tokio::time::sleep_until(due).await;
            self.what.index.forget(&held.digests, held.until).await?;
            self.held.pop_front();
        }
        Ok(())
    }
}
