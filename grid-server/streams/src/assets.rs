//! [`AssetStore`]: which blob or directory a URI with its qualifiers stands for.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use grid_core::{Clock, Digest, DigestFunction, Timestamp};
use grid_scheduler_sql::Database;
use sqlx::Row;

use crate::StreamsError;
use crate::sql::on;

/// What an asset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum AssetKind {
    /// A blob.
    Blob = 1,
    /// A tree of directories, by its root.
    Directory = 2,
}

/// What an asset is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssetKey {
    /// The instance's name.
    pub instance: String,
    /// What it is.
    pub kind: AssetKind,
    /// Where it comes from.
    pub uri: String,
    /// Names and values that tell versions of it apart; their order means nothing.
    pub qualifiers: Vec<(String, String)>,
}

impl AssetKey {
    fn qualifiers_text(&self) -> String {
        let mut lines: Vec<_> =
            self.qualifiers.iter().map(|(name, value)| format!("{name:?}={value:?}")).collect();
        lines.sort();
        lines.join("\n")
    }
}

/// Where an asset is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its blob, or its root directory.
    pub digest: Digest,
    /// What it is of no use without, beside itself.
    pub needs: Vec<(AssetKind, Digest)>,
    /// When it was pushed or fetched.
    pub pushed_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Assets by URI and qualifiers.
#[async_trait]
pub trait AssetStore: Debug + Send + Sync {
    /// The asset, unless it has expired.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn get(&self, key: &AssetKey) -> Result<Option<Asset>, StreamsError>;

    /// Records an asset in place of what was there.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn put(&self, key: &AssetKey, asset: &Asset) -> Result<(), StreamsError>;

    /// Removes assets that have expired, and those that nobody asked for since `before`; tells how many. The last use
    /// is known to the hour.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

/// A use is noted where the last one is older than this, in microseconds: reading stays reading.
const USE_IS_OLD: i64 = 60 * 60 * 1_000_000;

/// Assets in a database.
#[derive(Clone, Debug)]
pub struct SqlAssetStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl SqlAssetStore {
    /// Assets in `database`, whose schema is up to date.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

impl AssetKind {
    const fn number(self) -> i16 {
        self as i16
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Blob, Self::Directory].into_iter().find(|kind| kind.number().to_string() == text)
    }
}

fn text(digest: &Digest) -> String {
    format!("{}/{digest}", digest.function())
}

fn parse(text: &str) -> Option<Digest> {
    let (function, digest) = text.split_once('/')?;
    Digest::parse_text(DigestFunction::from_name(function), digest).ok()
}

fn needs_text(needs: &[(AssetKind, Digest)]) -> String {
    let lines: Vec<_> =
        needs.iter().map(|(kind, digest)| format!("{} {}", kind.number(), text(digest))).collect();
    lines.join("\n")
}

fn parse_needs(text: &str) -> Option<Vec<(AssetKind, Digest)>> {
    let line = |line: &str| {
        let (kind, digest) = line.split_once(' ')?;
        Some((AssetKind::from_text(kind)?, parse(digest)?))
    };
    text.lines().map(line).collect()
}

/// An asset as its row tells it.
struct Found {
    digest: String,
    needs: String,
    pushed_at: i64,
    expires_at: Option<i64>,
    used_at: i64,
}

impl Found {
    /// A digest that can't be read was written by a version that knew more functions: not there for us.
    fn asset(&self) -> Option<Asset> {
        Some(Asset {
            digest: parse(&self.digest)?,
            needs: parse_needs(&self.needs)?,
            pushed_at: Timestamp(self.pushed_at),
            expires_at: self.expires_at.map(Timestamp),
        })
    }
}

#[async_trait]
impl AssetStore for SqlAssetStore {
    async fn get(&self, key: &AssetKey) -> Result<Option<Asset>, StreamsError> {
        const SQL: &str = "SELECT digest, needs, pushed_at, expires_at, used_at FROM assets \
            WHERE instance = $1 AND kind = $2 AND uri = $3 AND qualifiers = $4 \
            AND (expires_at IS NULL OR expires_at > $5)";
        const USED: &str = "UPDATE assets SET used_at = $5 \
            WHERE instance = $1 AND kind = $2 AND uri = $3 AND qualifiers = $4";
        let (now, qualifiers) = (self.clock.now().0, key.qualifiers_text());
        on!(&self.database, pool => {
            let row = sqlx::query(SQL).bind(&key.instance).bind(key.kind.number()).bind(&key.uri)
                .bind(&qualifiers).bind(now).fetch_optional(pool).await?;
            let found = row.map(|row| Found {
                digest: row.get(0),
                needs: row.get(1),
                pushed_at: row.get(2),
                expires_at: row.get(3),
                used_at: row.get(4),
            });
            if found.as_ref().is_some_and(|found| found.used_at < now - USE_IS_OLD) {
                sqlx::query(USED).bind(&key.instance).bind(key.kind.number()).bind(&key.uri)
                    .bind(&qualifiers).bind(now).execute(pool).await?;
            }
            Ok(found.and_then(|found| found.asset()))
        })
    }

    async fn put(&self, key: &AssetKey, asset: &Asset) -> Result<(), StreamsError> {
        const SQL: &str = "INSERT INTO assets \
            (instance, kind, uri, qualifiers, digest, needs, pushed_at, expires_at, used_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (instance, kind, uri, qualifiers) DO UPDATE \
            SET digest = excluded.digest, needs = excluded.needs, pushed_at = excluded.pushed_at, \
            expires_at = excluded.expires_at, used_at = excluded.used_at";
        let now = self.clock.now().0;
        on!(&self.database, pool => sqlx::query(SQL)
            .bind(&key.instance).bind(key.kind.number()).bind(&key.uri).bind(key.qualifiers_text())
            .bind(text(&asset.digest)).bind(needs_text(&asset.needs)).bind(asset.pushed_at.0)
            .bind(asset.expires_at.map(|t| t.0)).bind(now).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM assets WHERE used_at < $1 OR expires_at <= $2";
        let now = self.clock.now().0;
        Ok(on!(&self.database, pool => sqlx::query(SQL)
            .bind(before.0).bind(now).execute(pool).await?.rows_affected()))
    }
}
