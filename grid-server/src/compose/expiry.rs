//! [`Expiry`]: removes, every few minutes, what services keep between calls and nobody has used for long.
//!
//! Every replica does it; two at once do no harm, for each row goes once.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use grid_core::{Clock, SystemClock, Timestamp};
use grid_streams::{
    AssetStore, EventStore, LogStreamStore, Provenance, SqlAssetStore, SqlEventStore, SqlLogStreamStore,
    SqlProvenance, SqlUploadStore, StreamsError, UploadStore,
};

/// How often the stores are looked through.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// A store whose contents expire.
#[derive(Clone, Debug)]
pub(super) enum Expiring {
    Uploads(Arc<SqlUploadStore>),
    Logs(Arc<SqlLogStreamStore>),
    Events(Arc<SqlEventStore>),
    Assets(Arc<SqlAssetStore>),
    Provenance(Arc<SqlProvenance>),
}

impl Expiring {
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        match self {
            Self::Uploads(store) => store.expire(before).await,
            Self::Logs(store) => store.expire(before).await,
            Self::Events(store) => store.expire(before).await,
            Self::Assets(store) => store.expire(before).await,
            Self::Provenance(store) => store.expire(before).await,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Uploads(_) => "parts of uploads",
            Self::Logs(_) => "log streams",
            Self::Events(_) => "streams of build events",
            Self::Assets(_) => "assets",
            Self::Provenance(_) => "records of executed results",
        }
    }
}

/// The stores, each with how long what it holds stays.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    stores: Vec<(Expiring, Duration)>,
}

impl Expiry {
    pub(super) fn add(&mut self, store: Expiring, retention: Duration) {
        self.stores.push((store, retention));
    }

    /// Looks through the stores for as long as the process lives.
    pub(super) fn start(self) {
        if self.stores.is_empty() {
            return;
        }
        tokio::spawn(async move {
            loop {
                // Replicas that started together don't come together.
                tokio::time::sleep(EVERY.mul_f64(0.75 + rand::random::<f64>() / 2.0)).await;
                self.sweep(SystemClock.now()).await;
            }
        });
    }

    async fn sweep(&self, now: Timestamp) {
        for (store, retention) in &self.stores {
            match store.expire(now.before(*retention)).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "{} expired", store.name()),
                Err(error) => tracing::warn!(%error, "{} could not be looked through", store.name()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use grid_scheduler_sql::{Database, DatabaseOptions, migrate};

    use super::*;

    #[tokio::test]
    async fn what_is_older_than_its_retention_goes() {
        let folder = tempfile::tempdir().unwrap();
        let options = DatabaseOptions::default();
        let database = Database::open_file(folder.path().join("grid.db"), options).await.unwrap();
        migrate::migrate(&database).await.unwrap();
        let uploads = Arc::new(SqlUploadStore::new(database, Arc::new(SystemClock)));
        uploads.append("u", 0, Bytes::from_static(b"part")).await.unwrap();
        let mut expiry = Expiry::default();
        let day = Duration::from_secs(24 * 60 * 60);
        expiry.add(Expiring::Uploads(Arc::clone(&uploads)), day);
        expiry.sweep(SystemClock.now()).await;
        assert_eq!(uploads.committed("u").await.unwrap(), 4);
        expiry.sweep(SystemClock.now().after(day + Duration::from_secs(1))).await;
        assert_eq!(uploads.committed("u").await.unwrap(), 0);
    }
}
