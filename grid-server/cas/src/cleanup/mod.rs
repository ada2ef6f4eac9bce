//! Expiry beside live traffic: [`clean`] deletes the least recently used blobs of an indexed storage.
//!
//! `grid-server cleanup` calls it, once or in a loop, with the index and the storage behind it (not the decorated one).
//! Several may be started at once: the one whose turn it is cleans, and the others do nothing, so that no more goes than
//! is too much. It never deletes what was used within the promised lifetime, nor what is pinned, and says what that kept.

mod policy;
mod report;

use std::time::{Duration, Instant};

use grid_core::{Clock, Coded, Digest, Timestamp};
use uuid::Uuid;

pub use self::policy::Policy;
pub use self::report::{Kept, Progress, Reason, Report};
use crate::index::{BlobIndex, Claim, Totals};
use crate::{SharedStore, StoreError};

/// How long a claim lasts; a batch is deleted in a small part of it, or not at all.
const CLAIM: Duration = Duration::from_secs(60);
/// How long a turn lasts from one batch to the next: longer than a batch, so that one that goes on is never lost.
const TURN: Duration = Duration::from_secs(120);
/// After this, nothing of a claim is deleted any more.
const DELETE_WITHIN: Duration = Duration::from_secs(30);

/// One run: nothing below the high watermark; above it, batches until the low watermark is reached or nothing more may
/// be deleted.
///
/// # Errors
/// The index's trouble, after the policy's retries. What a storage can't delete is no error: it is counted and stays.
pub async fn clean(
    index: &dyn BlobIndex,
    storage: &SharedStore,
    policy: &Policy,
    clock: &dyn Clock,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<Report, StoreError> {
    let before = retried(policy, || index.totals()).await?;
    let holder = Uuid::new_v4();
    let mut run = Run { index, storage, policy, clock, holder, report: Report::new(before, policy) };
    if !policy.is_above_high(before) {
        return Ok(run.report);
    }
    if policy.dry_run {
        return run.dry().await;
    }
    if !run.take_turn().await? {
        return Ok(run.yielded());
    }
    // Whoever had the turn before may have deleted since we looked.
    run.report.after = retried(policy, || index.totals()).await?;
    let ended = run.batches(progress).await;
    retried(policy, || index.end_turn(holder)).await?;
    match ended? {
        Turn::Ours => run.finish().await,
        Turn::Lost => Ok(run.yielded()),
    }
}

/// Whose turn it is when the batches end.
enum Turn {
    Ours,
    Lost,
}

struct Run<'a> {
    holder: Uuid,
    index: &'a dyn BlobIndex,
    storage: &'a SharedStore,
    policy: &'a Policy,
    clock: &'a dyn Clock,
    report: Report,
}

impl Run<'_> {
    async fn take_turn(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        retried(self.policy, || self.index.take_turn(self.holder, now, now.after(TURN))).await
    }

    /// What there is to say when another cleaner is at work.
    fn yielded(mut self) -> Report {
        let excess = self.policy.excess(self.report.after);
        let pinned = Totals::default();
        self.report.kept = Some(Kept { totals: excess, pinned, reason: Reason::AnothersTurn });
        self.report
    }

    async fn batches(&mut self, progress: &(dyn Fn(&Progress) + Sync)) -> Result<Turn, StoreError> {
        while !self.policy.is_at_low(self.report.after) {
            if !self.take_turn().await? {
                return Ok(Turn::Lost);
            }
            let began = Instant::now();
            if !self.batch().await? {
                break;
            }
            progress(&Progress {
                took: began.elapsed(),
                deleted: self.report.deleted,
                remaining: self.report.after,
                target: self.policy.low(),
            });
        }
        Ok(Turn::Ours)
    }

    fn claim(&self) -> Claim {
        let now = self.clock.now();
        let excess = self.policy.excess(self.report.after);
        let batch = self.policy.batch_blobs.max(1);
        Claim {
            unused_since: now.before(self.policy.unused_for(self.index.precision())),
            large: self.policy.large(self.index.precision()).map(|(size, unused)| (size, now.before(unused))),
            bytes: if excess.blobs > 0 {
                self.policy.batch_bytes
            } else {
                self.policy.batch_bytes.min(excess.bytes)
            },
            blobs: if excess.bytes > 0 { batch } else { batch.min(excess.blobs) },
            now,
            until: now.after(CLAIM),
        }
    }

    /// Deletes one batch; false where there was nothing to claim, or nothing of it could be deleted: a storage that is
    /// away must not have blob after blob claimed, and so absent for a while.
    async fn batch(&mut self) -> Result<bool, StoreError> {
        let claim = self.claim();
        let claimed = retried(self.policy, || self.index.claim(&claim)).await?;
        if claimed.is_empty() {
            return Ok(false);
        }
        let (gone, failed) = self.delete(&claimed, claim.now).await;
        let freed = retried(self.policy, || self.index.forget(&gone, claim.until)).await?;
        self.report.deleted = self.report.deleted.plus(freed);
        self.report.failed = self.report.failed.plus(Totals::of(&failed));
        // A claim on what was not deleted is left to end by itself: the deletion may yet come to pass.
        self.report.after = retried(self.policy, || self.index.totals()).await?;
        Ok(!gone.is_empty())
    }

    /// Which of the claimed blobs are deleted, and which are not.
    async fn delete(&self, claimed: &[Digest], since: Timestamp) -> (Vec<Digest>, Vec<Digest>) {
        if self.clock.now().since(since) > DELETE_WITHIN {
            return (Vec::new(), claimed.to_vec());
        }
        let Ok(answers) = tokio::time::timeout(DELETE_WITHIN, self.storage.delete(claimed)).await else {
            tracing::error!("a storage took too long to delete blobs; they will be tried again");
            return (Vec::new(), claimed.to_vec());
        };
        if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            tracing::error!(%error, "blobs could not be deleted; they will be tried again");
        }
        let (gone, failed): (Vec<_>, Vec<_>) =
            claimed.iter().zip(answers).partition(|(_, answer)| answer.is_ok());
        let digests = |part: Vec<(&Digest, _)>| part.into_iter().map(|(digest, _)| *digest).collect();
        (digests(gone), digests(failed))
    }

    async fn finish(mut self) -> Result<Report, StoreError> {
        let excess = self.policy.excess(self.report.after);
        if excess != Totals::default() {
            let claim = self.claim();
            let eligible = retried(self.policy, || self.index.eligible(&claim)).await?;
            self.report.kept = Some(self.kept(excess, eligible, &claim).await?);
        }
        Ok(self.report)
    }

    /// Why so much is kept, of which so much could be claimed.
    async fn kept(&self, excess: Totals, eligible: Totals, claim: &Claim) -> Result<Kept, StoreError> {
        let pinned = retried(self.policy, || self.index.pinned(claim.now)).await?;
        let reason = if self.report.failed.blobs > 0 {
            Reason::NotDeletable
        } else if eligible.blobs > 0 {
            Reason::ClaimedByAnother
        } else {
            Reason::UsedWithin(claim.now.since(claim.unused_since))
        };
        Ok(Kept { totals: excess, pinned, reason })
    }

    /// What a run would delete at most, without claiming anything.
    async fn dry(mut self) -> Result<Report, StoreError> {
        let claim = self.claim();
        let eligible = retried(self.policy, || self.index.eligible(&claim)).await?;
        let excess = self.policy.excess(self.report.before);
        self.report.would_delete = Some(Totals {
            bytes: eligible.bytes.min(excess.bytes),
            blobs: if excess.bytes > 0 { eligible.blobs } else { eligible.blobs.min(excess.blobs) },
        });
        if eligible.bytes < excess.bytes || eligible.blobs < excess.blobs {
            let left = Totals {
                bytes: excess.bytes.saturating_sub(eligible.bytes),
                blobs: excess.blobs.saturating_sub(eligible.blobs),
            };
            self.report.kept = Some(self.kept(left, Totals::default(), &claim).await?);
        }
        Ok(self.report)
    }
}

/// Makes a call to the index again while its trouble may pass: `retry-limit` times, 1.6^n seconds apart.
async fn retried<T, F>(policy: &Policy, mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = Duration::from_secs(1);
    for _ in 0..policy.retry_limit {
        match call().await {
            Err(error) if error.code().is_transient() => {
                tracing::warn!(%error, "the index failed; trying again");
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(1.6);
            }
            answer => return answer,
        }
    }
    call().await
}
