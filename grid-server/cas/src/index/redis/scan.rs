//! [`Scan`]: a walk over all keys of an index, stretch by stretch. It may meet a key twice, and misses none that is there
//! all the while (Redis, `SCAN`).

use grid_core::{Digest, Timestamp};

use super::{Claim, LIFETIME, RedisIndex};
use crate::StoreError;
use crate::redis_client::keys;

/// How many keys a stretch has, roughly.
const STRETCH: usize = 1_000;

/// A blob that a walk came across.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) digest: Digest,
    /// When it was last used.
    pub(super) used: Timestamp,
    /// In how many milliseconds its key expires.
    pub(super) expires: i64,
}

impl Found {
    pub(super) fn is_eligible(&self, claim: &Claim) -> bool {
        let large = claim
            .large
            .is_some_and(|(size, unused_since)| self.digest.size() > size && self.used < unused_since);
        self.used < claim.unused_since || large
    }
}

/// A walk from a place to where it began, or to the end if it began at the start.
pub(super) struct Scan<'a> {
    index: &'a RedisIndex,
    start: u64,
    here: u64,
    next: u64,
    begun: bool,
    wrapped: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(index: &'a RedisIndex, start: u64) -> Self {
        Self { index, start, here: start, next: start, begun: false, wrapped: start == 0 }
    }

    /// Where to go on another time.
    pub(super) const fn cursor(&self) -> u64 {
        self.next
    }

    /// There is more to do with this stretch: another time it is to begin with it.
    pub(super) const fn stay(&mut self) {
        self.next = self.here;
    }

    /// The next stretch; `None` at the end.
    pub(super) async fn next(&mut self, now: Timestamp) -> Result<Option<Vec<Found>>, StoreError> {
        if self.begun && self.next == 0 {
            if self.wrapped {
                return Ok(None);
            }
            // The part before the start; cursors are in no order, so it may be all of them.
            (self.wrapped, self.start) = (true, 0);
        }
        (self.begun, self.here) = (true, self.next);
        let mut scan = redis::cmd("SCAN");
        scan.arg(self.here).arg("MATCH").arg(format!("{}:*", self.index.prefix)).arg("COUNT").arg(STRETCH);
        let (next, names): (u64, Vec<Vec<u8>>) = self.index.connection.command(&scan).await?;
        self.next = next;
        let digests: Vec<Digest> = names.iter().filter_map(|name| self.digest(name)).collect();
        self.found(digests, now).await.map(Some)
    }

    fn digest(&self, name: &[u8]) -> Option<Digest> {
        let name = std::str::from_utf8(name).ok()?;
        keys::to_blob(name.strip_prefix(&self.index.prefix)?.strip_prefix(':')?)
    }

    async fn found(&self, digests: Vec<Digest>, now: Timestamp) -> Result<Vec<Found>, StoreError> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        for digest in &digests {
            pipeline.pttl(self.index.key(digest));
        }
        let mut answers: Vec<redis::Value> = self.index.connection.pipeline(&pipeline).await?;
        let expiries = answers.split_off(1);
        let server = answers.pop().and_then(|time| redis::from_redis_value::<(i64, i64)>(time).ok());
        let server = server.map_or(now.0, |(seconds, micros)| seconds * 1_000_000 + micros);
        let found = digests.into_iter().zip(expiries).filter_map(|(digest, expiry)| {
            // Negative for a key that is gone meanwhile, or that somebody keeps for ever.
            let expires = redis::from_redis_value::<i64>(expiry).ok().filter(|left| *left >= 0)?;
            let used = Timestamp(server + expires * 1_000).before(LIFETIME);
            Some(Found { digest, used, expires })
        });
        Ok(found.collect())
    }
}
