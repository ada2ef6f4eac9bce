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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its blob, or its root directory.
    pub digest: Digest,
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
    async fn put(
        &self,
        key: &AssetKey,
        digest: &Digest,
        expires_at: Option<Timestamp>,
    ) -> Result<(), StreamsError>;

    /// Removes assets that have expired, and those pushed before `before`; tells how many.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

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

fn parse(text: &str) -> Option<Digest> {
    let (function, digest) = text.split_once('/')?;
    Digest::parse_text(DigestFunction::from_name(function), digest).ok()
}

#[async_trait]
impl AssetStore for SqlAssetStore {
    async fn get(&self, key: &AssetKey) -> Result<Option<Asset>, StreamsError> {
        const SQL: &str = "SELECT digest, pushed_at, expires_at FROM assets WHERE instance = $1 AND kind = $2 \
            AND uri = $3 AND qualifiers = $4 AND (expires_at IS NULL OR expires_at > $5)";
        let now = self.clock.now().0;
        let row: Option<(String, i64, Option<i64>)> = on!(&self.database, pool => sqlx::query(SQL)
            .bind(&key.instance).bind(key.kind as i16).bind(&key.uri).bind(key.qualifiers_text()).bind(now)
            .fetch_optional(pool).await?.map(|row| (row.get(0), row.get(1), row.get(2))));
        // A digest that can't be read was written by a version that knew more functions: not there for us.
        Ok(row.and_then(|(digest, pushed_at, expires_at)| {
            let digest = parse(&digest)?;
            Some(Asset { digest, pushed_at: Timestamp(pushed_at), expires_at: expires_at.map(Timestamp) })
        }))
    }

    async fn put(
        &self,
        key: &AssetKey,
        digest: &Digest,
        expires_at: Option<Timestamp>,
    ) -> Result<(), StreamsError> {
        const SQL: &str = "INSERT INTO assets (instance, kind, uri, qualifiers, digest, pushed_at, expires_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (instance, kind, uri, qualifiers) DO UPDATE \
            SET digest = excluded.digest, pushed_at = excluded.pushed_at, expires_at = excluded.expires_at";
        let (now, text) = (self.clock.now().0, format!("{}/{digest}", digest.function()));
        on!(&self.database, pool => sqlx::query(SQL)
            .bind(&key.instance).bind(key.kind as i16).bind(&key.uri).bind(key.qualifiers_text())
            .bind(text).bind(now).bind(expires_at.map(|t| t.0)).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM assets WHERE pushed_at < $1 OR expires_at < $2";
        let now = self.clock.now().0;
        Ok(on!(&self.database, pool => sqlx::query(SQL)
            .bind(before.0).bind(now).execute(pool).await?.rows_affected()))
    }
}
