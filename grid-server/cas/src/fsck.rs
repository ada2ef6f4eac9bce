//! [`fsck`] brings an index and its storage, restored from different moments, into agreement beside live traffic.
//!
//! Blobs of the index that the storage has lost become misses; blobs of the storage that the index does not know are
//! adopted, and count as used now, for nobody knows when they were. Whatever is changed is claimed first, as deletions
//! are, so that nobody is told of a blob that is in doubt. It looks at names and sizes, not at contents.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use grid_core::{Clock, Digest};

use crate::content::{self, DigestSet};
use crate::index::{BlobIndex, Totals};
use crate::{Inventory, SharedStore, StoreError};

/// How many blobs one statement names.
const WINDOW: usize = 10_000;
/// How long a claim lasts; what it is for takes a small part of that.
const CLAIM: Duration = Duration::from_secs(60);

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// What says which blobs there are.
    pub index: Arc<dyn BlobIndex>,
    /// What has them.
    pub storage: SharedStore,
    /// The backends that `storage` consists of.
    pub backends: Vec<Arc<dyn Inventory>>,
}

/// What was found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the storage holds.
    pub stored: Totals,
    /// What of that the index does not know.
    pub orphans: Totals,
    /// What of that it knows now.
    pub adopted: Totals,
    /// What the index says is in the storage.
    pub known: Totals,
    /// What of that is not.
    pub lost: Totals,
    /// What of that is out of the index now.
    pub forgotten: Totals,
}

impl Report {
    /// Whether the two agreed, or do so now.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.orphans.blobs == self.adopted.blobs && self.lost.blobs == self.forgotten.blobs
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, orphans, adopted, known, lost, forgotten } = self;
        write!(
            f,
            "the storage holds {stored}, of which the index does not know {orphans} ({adopted} adopted); "
        )?;
        write!(f, "the index names {known}, of which the storage lacks {lost} ({forgotten} forgotten)")
    }
}

/// Compares, and with `repair` brings into agreement.
///
/// # Errors
/// The trouble of the index or a backend. What was repaired until then stays repaired.
pub async fn fsck(what: &Indexed, clock: &dyn Clock, repair: bool) -> Result<Report, StoreError> {
    let mut check = Check { what, clock, repair, report: Report::default(), seen: Vec::new() };
    for backend in &what.backends {
        check.look_for_orphans(&**backend).await?;
    }
    check.seen.sort_unstable();
    check.look_for_lost().await?;
    Ok(check.report)
}

struct Check<'a> {
    what: &'a Indexed,
    clock: &'a dyn Clock,
    repair: bool,
    report: Report,
    /// Of each blob that was listed, a part of its hash: eight bytes a blob, so that those need not be asked for again.
    seen: Vec<u64>,
}

impl Check<'_> {
    async fn look_for_orphans(&mut self, backend: &dyn Inventory) -> Result<(), StoreError> {
        let mut pages = backend.list();
        while let Some(page) = pages.try_next().await? {
            let digests: Vec<Digest> = page.iter().map(|stored| stored.digest).collect();
            self.report.stored = self.report.stored.plus(Totals::of(&digests));
            self.seen.extend(digests.iter().map(fingerprint));
            for window in digests.chunks(WINDOW) {
                let noted = self.what.index.noted(window).await?;
                let orphans = content::missing_of(window, |digest| noted.contains(digest));
                let orphans = if self.repair { self.adopt(&orphans).await? } else { Totals::of(&orphans) };
                self.report.orphans = self.report.orphans.plus(orphans);
            }
        }
        Ok(())
    }

    /// Has the index know these, if they are there still: a cleaner may have been at work on them. Gives those that were
    /// orphans: not what somebody else noted or deleted meanwhile.
    async fn adopt(&mut self, orphans: &[Digest]) -> Result<Totals, StoreError> {
        if orphans.is_empty() {
            return Ok(Totals::default());
        }
        let (index, now) = (&self.what.index, self.clock.now());
        let until = now.after(CLAIM);
        let claimed: Vec<Digest> = index.adopt(orphans, now, until).await?.into_iter().collect();
        let missing = self.what.storage.find_missing(&claimed).await;
        // Where it is not known whether they are there, they are orphans as before.
        let gone: DigestSet = missing.as_ref().unwrap_or(&claimed).iter().copied().collect();
        let (gone, there): (Vec<_>, Vec<_>) =
            claimed.iter().copied().partition(|digest| gone.contains(digest));
        index.release(&there, until).await?;
        index.forget(&gone, until).await?;
        missing?;
        let adopted = Totals::of(&there);
        self.report.adopted = self.report.adopted.plus(adopted);
        Ok(adopted)
    }

    async fn look_for_lost(&mut self) -> Result<(), StoreError> {
        let mut pages = self.what.index.known();
        while let Some(page) = pages.try_next().await? {
            self.report.known = self.report.known.plus(Totals::of(&page));
            let unseen = page.into_iter().filter(|digest| !self.was_listed(digest));
            let unseen: Vec<Digest> = unseen.collect();
            for window in unseen.chunks(WINDOW) {
                let lost = self.what.storage.find_missing(window).await?;
                let lost = if self.repair { self.forget(&lost).await? } else { Totals::of(&lost) };
                self.report.lost = self.report.lost.plus(lost);
            }
        }
        Ok(())
    }

    /// Where there are several backends, that one has a blob does not say that it is the one which is asked for it.
    fn was_listed(&self, digest: &Digest) -> bool {
        self.what.backends.len() == 1 && self.seen.binary_search(&fingerprint(digest)).is_ok()
    }

    /// Takes these out of the index, if they are lost still: somebody may have stored them again. Gives those that were lost.
    async fn forget(&mut self, lost: &[Digest]) -> Result<Totals, StoreError> {
        if lost.is_empty() {
            return Ok(Totals::default());
        }
        let (index, now) = (&self.what.index, self.clock.now());
        let until = now.after(CLAIM);
        let claimed = index.claim_these(lost, now, until).await?;
        let missing = self.what.storage.find_missing(&claimed).await;
        // Where it is not known whether they are lost, the index says what it said before.
        let gone: DigestSet = missing.iter().flatten().copied().collect();
        let (gone, there): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|digest| gone.contains(digest));
        index.release(&there, until).await?;
        let forgotten = index.forget(&gone, until).await?;
        missing?;
        self.report.forgotten = self.report.forgotten.plus(forgotten);
        Ok(forgotten)
    }
}

fn fingerprint(digest: &Digest) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&digest.hash_bytes()[..8]);
    u64::from_be_bytes(part) ^ digest.size().rotate_left(32)
}
