//! Takes over what BuildGrid's index names: sizes, last uses, and the blobs that it keeps itself.
//!
//! Some thousand rows a statement, each of which is a transaction and does nothing when it is made again: an import that
//! was interrupted is begun anew, and one beside a BuildGrid that works on is repeated at the end.

use grid_core::{Clock, Timestamp};

use super::{BuildGrid, Tables, splices};
use crate::index::Totals;
use crate::index::sql::part;
use crate::sql::unsigned;
use crate::{SharedStore, StoreError};

/// How many rows one statement takes over.
const PAGE: i64 = 5_000;

// BuildGrid's times are of no zone, and mean UTC. A blob whose use it does not know counts as used now. Blobs that it has
// in chunks alone are no rows of ours before they are put together.
const IMPORT: &str = r"
WITH page AS MATERIALIZED (
    SELECT m.id, m.hash, m.size_bytes AS size, m.kind = 3 AS spliced,
        m.hash ~ '^[0-9a-f]{64}$' AND m.size_bytes > 0 AS sound,
        coalesce((extract(epoch FROM a.accessed_timestamp) * 1000000)::bigint, $4) AS accessed,
        CASE WHEN octet_length(i.inline_blob) = m.size_bytes THEN i.inline_blob END AS data
    FROM public.index_metadata m
    LEFT JOIN public.index_access a ON a.index_id = m.id
    LEFT JOIN public.index_blobs i ON i.index_id = m.id
    WHERE m.id > $2 ORDER BY m.id LIMIT $3
),
given AS MATERIALIZED (
    SELECT '\x01'::bytea || CASE WHEN sound THEN decode(hash, 'hex') END AS key, size, accessed, data
    FROM page WHERE sound AND NOT spliced ORDER BY 1
),
there AS (
    INSERT INTO cas_blobs AS b (store, key, size, accessed) SELECT $1, key, size, accessed FROM given
    ON CONFLICT (store, key) DO UPDATE SET accessed = excluded.accessed WHERE b.accessed < excluded.accessed
    RETURNING key, size, xmax = 0 AS fresh
),
kept AS (
    INSERT INTO cas_inline (store, key, data)
    SELECT $1, key, data FROM given JOIN there USING (key) WHERE fresh AND data IS NOT NULL
    ON CONFLICT (store, key) DO NOTHING
),
counted AS (
    INSERT INTO cas_totals AS t (store, part, bytes, blobs)
    SELECT $1, $5, sum(size), count(*) FROM there WHERE fresh HAVING count(*) > 0
    ON CONFLICT (store, part) DO UPDATE SET bytes = t.bytes + excluded.bytes, blobs = t.blobs + excluded.blobs
)
SELECT (SELECT max(id) FROM page), (SELECT count(*) FROM page), (SELECT count(*) FROM page WHERE NOT sound),
    (SELECT coalesce(sum(size), 0)::bigint FROM there WHERE fresh), (SELECT count(*) FROM there WHERE fresh)";

const ROWS: &str = "SELECT count(*) FROM public.index_metadata";

/// What was taken over of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many rows BuildGrid's index has, as far as it was read.
    pub rows: u64,
    /// What of that our index did not know.
    pub new: Totals,
    /// What of that was put together from BuildGrid's chunks.
    pub joined: Totals,
    /// How many blobs in chunks could not be, for a chunk is lost or they don't make the blob.
    pub broken: u64,
    /// How many rows name no blob.
    pub unsound: u64,
}

impl std::fmt::Display for Imported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, new, joined, broken, unsound } = self;
        write!(f, "of {rows} blobs in BuildGrid's index, {new} were not known")?;
        if joined.blobs > 0 {
            write!(f, "; {joined} of them were put together from chunks")?;
        }
        if *broken > 0 {
            write!(f, "; {broken} in chunks could not be, and are misses")?;
        }
        if *unsound > 0 {
            write!(f, "; {unsound} rows name no blob of a size above zero, and were left out")?;
        }
        Ok(())
    }
}

impl BuildGrid {
    /// How many blobs BuildGrid's index names; `None` where there is no such index.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where BuildGrid's tables are those of an older version; the database's trouble.
    pub async fn rows(&self) -> Result<Option<u64>, StoreError> {
        match self.tables().await? {
            Tables::None => return Ok(None),
            Tables::Outdated => {
                return Err(self.refused(
                    "BuildGrid's index is that of a version before 0.8: bring it to its newest schema by \
                     `bgd migrate apply` first",
                ));
            }
            Tables::Current => {}
        }
        let rows: i64 =
            sqlx::query_scalar(ROWS).fetch_one(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(Some(unsigned(rows)))
    }

    /// Takes over what BuildGrid's index names. Blobs that it has in chunks alone are read from and written to `store`,
    /// which is our index with the storage behind it. `None` where there is no such index.
    ///
    /// # Errors
    /// As [`BuildGrid::rows`]; the trouble of the storage.
    pub async fn import(
        &self,
        store: &SharedStore,
        clock: &dyn Clock,
        tell: &(dyn Fn(&Imported) + Sync),
    ) -> Result<Option<Imported>, StoreError> {
        if self.rows().await?.is_none() {
            return Ok(None);
        }
        let mut done = Imported::default();
        let mut after = i64::MIN;
        while let Some(last) = self.import_page(after, clock.now(), &mut done).await? {
            after = last;
            tell(&done);
        }
        splices::join(&self.pool, &self.name, store, &mut done).await?;
        Ok(Some(done))
    }

    /// The rows after the one with this number; gives the last one's number.
    async fn import_page(
        &self,
        after: i64,
        now: Timestamp,
        done: &mut Imported,
    ) -> Result<Option<i64>, StoreError> {
        let query = sqlx::query_as(IMPORT).bind(&*self.store).bind(after).bind(PAGE).bind(now.0).bind(part());
        let row = query.fetch_one(&self.pool).await.map_err(|source| self.error(&source))?;
        let (last, rows, unsound, bytes, blobs): (Option<i64>, i64, i64, i64, i64) = row;
        done.rows += unsigned(rows);
        done.unsound += unsigned(unsound);
        done.new = done.new.plus(Totals { bytes: unsigned(bytes), blobs: unsigned(blobs) });
        Ok(last)
    }
}
