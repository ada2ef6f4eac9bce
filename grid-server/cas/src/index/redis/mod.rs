//! `!redis-index`: the index in Redis, in BuildGrid's layout: a key `{prefix}:{hash}_{size}` for each blob, which expires
//! a year after the blob's last use, so that its expiry tells the use, or later where it is pinned; and a counter of all bytes.
//!
//! A key's value is `1`, or says until when the blob is claimed. Blobs are claimed as a scan comes across them, the oldest
//! of each stretch first: Redis keeps no order of use.

mod scan;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream;
use grid_core::{Digest, Timestamp};
use parking_lot::Mutex;
use redis::Script;
use uuid::Uuid;

use super::{BlobIndex, Claim, Known, NewBlob, Pages, Pinned, SKEW, Totals};
use crate::StoreError;
use crate::content::DigestSet;
use crate::redis_client::{RedisConnection, keys};

/// After how long without use a key expires, as BuildGrid has it.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many keys one script names.
const KEYS: usize = 1_000;
/// BuildGrid's prefix where none is configured.
pub const DEFAULT_PREFIX: &str = "A";

/// An index in Redis.
#[derive(Debug)]
pub struct RedisIndex {
    connection: Arc<RedisConnection>,
    prefix: String,
    /// Where the scan for blobs to claim goes on.
    cursor: Mutex<u64>,
}

impl RedisIndex {
    /// The index of the storage whose keys have this prefix.
    #[must_use]
    pub fn new(connection: Arc<RedisConnection>, prefix: &str) -> Self {
        Self { connection, prefix: prefix.to_owned(), cursor: Mutex::new(0) }
    }

    fn key(&self, digest: &Digest) -> String {
        keys::prefixed(&self.prefix, digest)
    }

    /// BuildGrid's counter of bytes.
    fn bytes_key(&self) -> String {
        match self.prefix.as_str() {
            DEFAULT_PREFIX => "total_size".to_owned(),
            prefix => format!("{prefix}:total_size"),
        }
    }

    /// Our counter of blobs; BuildGrid asks the server how many keys it has.
    fn blobs_key(&self) -> String {
        format!("{}:total_blobs", self.prefix)
    }

    /// Whose turn it is to clean.
    fn turn_key(&self) -> String {
        format!("{}:cleaner", self.prefix)
    }

    /// Runs a script on the keys of `digests` (and the two counters before them), part by part; its answers, one a key.
    async fn each(
        &self,
        script: &'static Script,
        digests: &[Digest],
        arguments: &[i64],
    ) -> Result<Vec<i64>, StoreError> {
        let mut answers = Vec::with_capacity(digests.len());
        for part in digests.chunks(KEYS) {
            let mut call = script.prepare_invoke();
            call.key(self.bytes_key()).key(self.blobs_key());
            for argument in arguments {
                call.arg(*argument);
            }
            for digest in part {
                call.key(self.key(digest)).arg(digest.size());
            }
            answers.extend(self.connection.script::<Vec<i64>>(&call).await?);
        }
        Ok(answers)
    }

    /// Those of `digests` for which a script says 1.
    async fn those(
        &self,
        script: &'static Script,
        digests: &[Digest],
        arguments: &[i64],
    ) -> Result<Vec<Digest>, StoreError> {
        let answers = self.each(script, digests, arguments).await?;
        Ok(digests
            .iter()
            .zip(answers)
            .filter(|(_, answer)| *answer == 1)
            .map(|(digest, _)| *digest)
            .collect())
    }
}

/// When the key of a blob that is used now expires, in milliseconds as Redis counts them.
fn expiry(now: Timestamp) -> i64 {
    now.after(LIFETIME).0 / 1_000
}

#[async_trait]
impl BlobIndex for RedisIndex {
    async fn present(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        let present = self.those(&scripts::PRESENT, digests, &[now.0, expiry(now)]).await?;
        Ok(present.into_iter().collect())
    }

    /// Redis keeps times to the millisecond.
    fn precision(&self) -> Duration {
        Duration::from_millis(1)
    }

    async fn contents(&self, _: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        Ok(Vec::new())
    }

    async fn insert(&self, blobs: &[NewBlob], now: Timestamp) -> Result<DigestSet, StoreError> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let claimed = self.those(&scripts::INSERT, &digests, &[now.0, expiry(now)]).await?;
        Ok(claimed.into_iter().collect())
    }

    async fn adopt(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        let new = self.those(&scripts::ADOPT, digests, &[until.0, expiry(now)]).await?;
        Ok(new.into_iter().collect())
    }

    async fn noted(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        Ok(self.those(&scripts::NOTED, digests, &[0, 0]).await?.into_iter().collect())
    }

    fn known(&self) -> Known<'_> {
        let walk = stream::try_unfold(scan::Scan::new(self, 0), |mut scan| async move {
            let stretch = scan.next(Timestamp(0)).await?;
            Ok(stretch.map(|stretch| (stretch, scan)))
        });
        Box::pin(walk.and_then(move |stretch| async move {
            let digests: Vec<Digest> = stretch.iter().map(|found| found.digest).collect();
            let claimed = self.claimed(&digests, Timestamp(0)).await?;
            Ok(digests.into_iter().filter(|digest| !claimed.contains(digest)).collect())
        }))
    }

    async fn claimed(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        Ok(self.those(&scripts::CLAIMED, digests, &[now.0, 0]).await?.into_iter().collect())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Digest>, StoreError> {
        let start = *self.cursor.lock();
        let (mut claimed, mut got) = (Vec::new(), Totals::default());
        // Somebody else may have won what was chosen: then this is not chosen again.
        let mut tried = DigestSet::default();
        let mut scan = scan::Scan::new(self, start);
        while got.bytes < claim.bytes && got.blobs < claim.blobs {
            let Some(mut stretch) = scan.next(claim.now).await? else { break };
            stretch.retain(|found| found.is_eligible(claim) && !tried.contains(&found.digest));
            stretch.sort_unstable_by_key(|found| found.used);
            let mut chosen = Vec::new();
            let mut sum = got;
            for found in stretch {
                if sum.bytes >= claim.bytes || sum.blobs >= claim.blobs {
                    scan.stay();
                    break;
                }
                sum = sum.plus(Totals { bytes: found.digest.size(), blobs: 1 });
                tried.insert(found.digest);
                chosen.push(found);
            }
            let won = self.claim_unused(&chosen, claim).await?;
            got = got.plus(Totals::of(&won));
            claimed.extend(won);
        }
        *self.cursor.lock() = scan.cursor();
        Ok(claimed)
    }

    async fn eligible(&self, claim: &Claim) -> Result<Totals, StoreError> {
        let (mut scan, mut sum) = (scan::Scan::new(self, 0), Totals::default());
        while let Some(stretch) = scan.next(claim.now).await? {
            let eligible = stretch.iter().filter(|found| found.is_eligible(claim));
            sum = sum.plus(Totals::of(eligible.map(|found| &found.digest)));
        }
        Ok(sum)
    }

    async fn claim_these(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        self.those(&scripts::CLAIM, digests, &[now.0, until.0]).await
    }

    async fn forget(&self, digests: &[Digest], until: Timestamp) -> Result<Totals, StoreError> {
        Ok(Totals::of(&self.those(&scripts::FORGET, digests, &[until.0, 0]).await?))
    }

    async fn release(&self, digests: &[Digest], until: Timestamp) -> Result<(), StoreError> {
        self.each(&scripts::RELEASE, digests, &[until.0, 0]).await.map(drop)
    }

    async fn pin(&self, digests: &[Digest], until: Timestamp) -> Result<DigestSet, StoreError> {
        self.present(digests, until).await
    }

    async fn unpin(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        let pinned = self.those(&scripts::UNPIN, digests, &[now.0, expiry(now)]).await?;
        Ok(pinned.into_iter().collect())
    }

    fn pins(&self, now: Timestamp) -> Pages<'_, Pinned> {
        let begin = (scan::Scan::new(self, 0), DigestSet::default());
        Box::pin(stream::try_unfold(begin, move |(mut scan, mut told)| async move {
            let Some(stretch) = scan.next(now).await? else { return Ok(None) };
            let pinned = stretch.iter().filter(|found| found.used > now.after(SKEW));
            let new = pinned.filter(|found| told.insert(found.digest));
            let page = new.map(|found| Pinned { digest: found.digest, until: found.used }).collect();
            Ok(Some((page, (scan, told))))
        }))
    }

    async fn pinned(&self, now: Timestamp) -> Result<Totals, StoreError> {
        let add = async |sum: Totals, page: Vec<Pinned>| {
            Ok(sum.plus(Totals::of(page.iter().map(|pin| &pin.digest))))
        };
        self.pins(now).try_fold(Totals::default(), add).await
    }

    async fn take_turn(&self, holder: Uuid, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let mut call = scripts::TAKE_TURN.key(self.turn_key());
        call.arg(holder.to_string()).arg(u64::try_from(until.since(now).as_millis()).unwrap_or(1).max(1));
        Ok(self.connection.script::<i64>(&call).await? == 1)
    }

    async fn end_turn(&self, holder: Uuid) -> Result<(), StoreError> {
        let mut call = scripts::END_TURN.key(self.turn_key());
        call.arg(holder.to_string());
        self.connection.script::<i64>(&call).await.map(drop)
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let (seconds, micros): (i64, i64) = self.connection.command(&redis::cmd("TIME")).await?;
        Ok(Some(Timestamp(seconds.saturating_mul(1_000_000).saturating_add(micros))))
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let command = redis::Cmd::mget(vec![self.bytes_key(), self.blobs_key()]);
        let (bytes, blobs): (Option<i64>, Option<i64>) = self.connection.command(&command).await?;
        let unsigned = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
        // With neither counter there is nothing: nothing was ever noted.
        if blobs.is_some() || bytes.is_none() {
            return Ok(Totals { bytes: unsigned(bytes), blobs: unsigned(blobs) });
        }
        self.count().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.connection.probe().await
    }
}

impl RedisIndex {
    /// Counts everything, and sets the counters: for an index that BuildGrid made, which counts no blobs.
    ///
    /// # Errors
    /// The server's trouble.
    pub async fn count(&self) -> Result<Totals, StoreError> {
        let (mut scan, mut sum) = (scan::Scan::new(self, 0), Totals::default());
        while let Some(stretch) = scan.next(Timestamp(0)).await? {
            sum = sum.plus(Totals::of(stretch.iter().map(|found| &found.digest)));
        }
        let mut pipeline = redis::pipe();
        pipeline.atomic().set(self.bytes_key(), sum.bytes).ignore().set(self.blobs_key(), sum.blobs).ignore();
        self.connection.pipeline::<()>(&pipeline).await?;
        Ok(sum)
    }

    /// Claims what a scan found, where it was neither used nor claimed since.
    async fn claim_unused(&self, found: &[scan::Found], claim: &Claim) -> Result<Vec<Digest>, StoreError> {
        let mut claimed = Vec::new();
        for part in found.chunks(KEYS) {
            let mut call = scripts::CLAIM_UNUSED.prepare_invoke();
            call.key(self.bytes_key()).key(self.blobs_key()).arg(claim.now.0).arg(claim.until.0);
            for found in part {
                call.key(self.key(&found.digest)).arg(found.expires);
            }
            let answers: Vec<i64> = self.connection.script(&call).await?;
            let won = part.iter().zip(answers).filter(|(_, answer)| *answer == 1);
            claimed.extend(won.map(|(found, _)| found.digest));
        }
        Ok(claimed)
    }
}
