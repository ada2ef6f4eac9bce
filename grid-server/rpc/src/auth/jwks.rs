//! The keys that tokens are signed with: one secret or key in a file, or key sets that issuers publish.
//!
//! Published sets are fetched in the background, and again when a token comes that none of their keys has signed, but no
//! more often than [`COOL_DOWN`]. While an issuer is away, what it published last stands.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::Followed;
use crate::RpcError;

/// The least time between two fetches that tokens cause.
pub const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long an issuer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest key set, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Where the keys come from.
#[derive(Clone)]
pub enum Keys {
    /// One key, for every token.
    Fixed(Arc<DecodingKey>),
    /// The same, in a file that may be replaced.
    File(Arc<Followed<DecodingKey>>),
    /// What issuers publish.
    Published(Arc<Published>),
}

impl Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Keys::Fixed",
            Self::File(_) => "Keys::File",
            Self::Published(_) => "Keys::Published",
        })
    }
}

impl Keys {
    /// The keys that may have signed a token whose header names the key `id`, as far as they are known.
    #[must_use]
    pub fn known(&self, id: Option<&str>) -> Vec<DecodingKey> {
        match self {
            Self::Fixed(key) => vec![DecodingKey::clone(key)],
            Self::File(key) => vec![DecodingKey::clone(&key.current())],
            Self::Published(published) => published.known(id),
        }
    }

    /// The keys that may have signed a token that no known one has, once they were looked for.
    pub async fn looked_for(&self, id: Option<&str>) -> Vec<DecodingKey> {
        match self {
            Self::Fixed(_) | Self::File(_) => Vec::new(),
            Self::Published(published) => {
                published.fetch_unless_fresh().await;
                published.known(id)
            }
        }
    }

    /// Whether every issuer has answered once: else a token may be one of those that has not.
    #[must_use]
    pub fn are_complete(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::File(_) => true,
            Self::Published(published) => published.sets.iter().all(|(_, set)| set.read().is_some()),
        }
    }
}

impl Keys {
    /// A number that is another once a key may have been withdrawn.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match self {
            Self::Fixed(_) => 0,
            Self::File(key) => key.generation(),
            Self::Published(published) => published.changes.load(Ordering::Relaxed),
        }
    }
}

/// Key sets by URL.
#[derive(Debug)]
pub struct Published {
    client: reqwest::Client,
    /// Each URL with what it gave last.
    sets: Vec<(String, RwLock<Option<JwkSet>>)>,
    /// How often an issuer published something else.
    changes: AtomicU64,
    fetched: Mutex<Option<Instant>>,
    fetching: tokio::sync::Mutex<()>,
}

impl Published {
    /// The key sets at `urls`, none of them fetched yet.
    ///
    /// # Errors
    /// [`RpcError::Internal`] where no HTTP client can be made.
    pub fn new(urls: Vec<String>) -> Result<Self, RpcError> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| RpcError::Internal(format!("no HTTP client for key sets: {error}")))?;
        let sets = urls.into_iter().map(|url| (url, RwLock::new(None))).collect();
        Ok(Self {
            client,
            sets,
            changes: AtomicU64::new(0),
            fetched: Mutex::new(None),
            fetching: tokio::sync::Mutex::new(()),
        })
    }

    /// Fetches all sets now and every `interval`, until the keys are dropped; to be spawned.
    pub async fn refresh(this: std::sync::Weak<Self>, interval: Duration) {
        while let Some(keys) = this.upgrade() {
            keys.fetch().await;
            drop(keys);
            tokio::time::sleep(interval).await;
        }
    }

    fn known(&self, id: Option<&str>) -> Vec<DecodingKey> {
        let mut keys = Vec::new();
        for (_, set) in &self.sets {
            let set = set.read();
            let all = set.iter().flat_map(|set| &set.keys);
            let named = all.filter(|key| id.is_none() || key.common.key_id.as_deref() == id);
            keys.extend(named.filter_map(|key| DecodingKey::from_jwk(key).ok()));
        }
        keys
    }

    async fn fetch_unless_fresh(&self) {
        // Those who wait for a fetch find it done.
        let _turn = self.fetching.lock().await;
        let fresh = self.fetched.lock().is_some_and(|at| at.elapsed() < COOL_DOWN);
        if !fresh {
            self.fetch().await;
        }
    }

    async fn fetch(&self) {
        // One issuer that is slow to answer holds up no other's keys.
        join_all(self.sets.iter().map(|(url, set)| async move {
            match self.fetch_one(url).await {
                Ok(found) => {
                    let mut set = set.write();
                    if set.as_ref() != Some(&found) {
                        *set = Some(found);
                        self.changes.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    tracing::warn!(url, error, "a key set could not be fetched; the last one stands");
                }
            }
        }))
        .await;
        *self.fetched.lock() = Some(Instant::now());
    }

    async fn fetch_one(&self, url: &str) -> Result<JwkSet, String> {
        let answer = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(|error| error.without_url().to_string())?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_BYTES {
                return Err(format!("it is larger than {MAX_BYTES} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| format!("it is no key set: {error}"))
    }
}
