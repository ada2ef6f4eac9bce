//! [`Shared`]: an index for deleting from a storage that BuildGrid uses too.
//!
//! What is claimed is taken out of BuildGrid's index in the statement that looks when BuildGrid's clients last used it: so
//! a blob is absent there before its content goes, and what they used lately stays. What BuildGrid alone knows is no
//! orphan.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Digest, DigestFunction, Timestamp};
use std::sync::Arc;
use uuid::Uuid;

use super::{BuildGrid, digest_of};
use crate::StoreError;
use crate::content::{DigestSet, missing_of};
use crate::index::{BlobIndex, Claim, Known, NewBlob, Pages, Pinned, Totals};
use crate::sql::{digest, key};

// Both of BuildGrid's rows are locked: it notes uses in the second, and skips what is locked.
const TAKE_OUT: &str = r"
WITH given AS (
    SELECT key, hash, unused_since FROM unnest($2::bytea[], $3::text[], $4::bigint[]) AS g (key, hash, unused_since)
),
named AS MATERIALIZED (
    SELECT m.id, g.key, g.unused_since, (extract(epoch FROM a.accessed_timestamp) * 1000000)::bigint AS accessed
    FROM given g JOIN public.index_metadata m USING (hash) JOIN public.index_access a ON a.index_id = m.id
    ORDER BY m.id FOR UPDATE OF m, a
),
unused AS MATERIALIZED (
    SELECT m.id FROM given g JOIN public.index_metadata m USING (hash)
    WHERE NOT EXISTS (SELECT 1 FROM public.index_access a WHERE a.index_id = m.id) ORDER BY m.id FOR UPDATE OF m
),
gone AS (
    DELETE FROM public.index_metadata m
    WHERE m.id IN (SELECT id FROM named WHERE accessed < unused_since UNION ALL SELECT id FROM unused)
)
UPDATE cas_blobs b SET deleting = NULL, accessed = greatest(b.accessed, named.accessed) FROM named
WHERE b.store = $1 AND b.key = named.key AND b.deleting = $5 AND named.accessed >= named.unused_since
RETURNING b.key, b.size";

const NAMED: &str = "SELECT hash, size_bytes FROM public.index_metadata WHERE hash = ANY($1)";

/// An index of ours whose storage BuildGrid has indexed too.
#[derive(Debug)]
pub(super) struct Shared {
    ours: Arc<dyn BlobIndex>,
    theirs: BuildGrid,
}

impl Shared {
    pub(super) fn new(ours: Arc<dyn BlobIndex>, theirs: BuildGrid) -> Self {
        Self { ours, theirs }
    }

    /// Takes claimed blobs out of BuildGrid's index; gives those that its clients used too lately, which are ours no
    /// longer to delete.
    async fn take_out(
        &self,
        claimed: &[Digest],
        unused_since: impl Fn(&Digest) -> Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        let theirs: Vec<&Digest> = claimed.iter().filter(|digest| can_be_theirs(digest)).collect();
        let rows: Result<Vec<(Vec<u8>, i64)>, _> = sqlx::query_as(TAKE_OUT)
            .bind(&*self.theirs.store)
            .bind(theirs.iter().map(|digest| key(digest)).collect::<Vec<_>>())
            .bind(theirs.iter().map(|digest| digest.hash_hex()).collect::<Vec<_>>())
            .bind(theirs.iter().map(|digest| unused_since(digest).0).collect::<Vec<_>>())
            .bind(until.0)
            .fetch_all(&self.theirs.pool)
            .await;
        let rows = rows.map_err(|source| self.theirs.error(&source))?;
        rows.iter().map(|(key, size)| digest(&self.theirs.name, key, *size)).collect()
    }
}

fn can_be_theirs(digest: &Digest) -> bool {
    digest.function() == DigestFunction::Sha256
}

#[async_trait]
impl BlobIndex for Shared {
    async fn present(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.ours.present(digests, now).await
    }

    fn precision(&self) -> Duration {
        self.ours.precision()
    }

    async fn contents(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        self.ours.contents(digests).await
    }

    async fn insert(&self, blobs: &[NewBlob], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.ours.insert(blobs, now).await
    }

    async fn adopt(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        self.ours.adopt(digests, now, until).await
    }

    async fn noted(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        let mut noted = self.ours.noted(digests).await?;
        let theirs = digests.iter().filter(|digest| can_be_theirs(digest));
        let hashes: Vec<String> = theirs.map(Digest::hash_hex).collect();
        let rows = sqlx::query_as(NAMED).bind(hashes).fetch_all(&self.theirs.pool).await;
        let rows: Vec<(String, i64)> = rows.map_err(|source| self.theirs.error(&source))?;
        noted.extend(rows.iter().filter_map(|(hash, size)| digest_of(hash, *size)));
        Ok(noted)
    }

    fn known(&self) -> Known<'_> {
        self.ours.known()
    }

    async fn claimed(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.ours.claimed(digests, now).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Digest>, StoreError> {
        let unused_since = |digest: &Digest| match claim.large {
            Some((size, since)) if digest.size() > size => since.max(claim.unused_since),
            _ => claim.unused_since,
        };
        // Those that stay are noted as used when BuildGrid's clients did, and not claimed again: this comes to an end.
        loop {
            let claimed = self.ours.claim(claim).await?;
            let stay = self.take_out(&claimed, unused_since, claim.until).await?;
            let ours = missing_of(&claimed, |digest| stay.contains(digest));
            if claimed.is_empty() || !ours.is_empty() {
                return Ok(ours);
            }
        }
    }

    async fn eligible(&self, claim: &Claim) -> Result<Totals, StoreError> {
        self.ours.eligible(claim).await
    }

    async fn claim_these(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        let claimed = self.ours.claim_these(digests, now, until).await?;
        let stay = self.take_out(&claimed, |_| Timestamp(i64::MAX), until).await?;
        Ok(missing_of(&claimed, |digest| stay.contains(digest)))
    }

    async fn forget(&self, digests: &[Digest], until: Timestamp) -> Result<Totals, StoreError> {
        self.ours.forget(digests, until).await
    }

    async fn release(&self, digests: &[Digest], until: Timestamp) -> Result<(), StoreError> {
        self.ours.release(digests, until).await
    }

    async fn pin(&self, digests: &[Digest], until: Timestamp) -> Result<DigestSet, StoreError> {
        self.ours.pin(digests, until).await
    }

    async fn unpin(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.ours.unpin(digests, now).await
    }

    fn pins(&self, now: Timestamp) -> Pages<'_, Pinned> {
        self.ours.pins(now)
    }

    async fn pinned(&self, now: Timestamp) -> Result<Totals, StoreError> {
        self.ours.pinned(now).await
    }

    async fn take_turn(&self, holder: Uuid, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.ours.take_turn(holder, now, until).await
    }

    async fn end_turn(&self, holder: Uuid) -> Result<(), StoreError> {
        self.ours.end_turn(holder).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.ours.time().await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.ours.totals().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.ours.probe().await
    }
}
