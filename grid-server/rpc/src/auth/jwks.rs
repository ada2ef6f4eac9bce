//! The keys that tokens are signed with: one secret or key in a file, or key sets that issuers publish.
//!
//! Published sets are fetched in the background, and again when a token names a key that is not among them, but no
//! more often than [`COOL_DOWN`]. While an issuer is away, what it published last stands.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

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
    /// What issuers publish.
    Published(Arc<Published>),
}

impl Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Keys::Fixed",
            Self::Published(_) => "Keys::Published",
        })
    }
}

impl Keys {
    /// The keys that may have signed a token whose header names the key `id`.
    ///
    /// # Errors
    /// [`RpcError::Unavailable`] where no issuer has answered yet.
    pub async fn candidates(&self, id: Option<&str>) -> Result<Vec<DecodingKey>, RpcError> {
        match self {
            Self::Fixed(key) => Ok(vec![DecodingKey::clone(key)]),
            Self::Published(published) => published.candidates(id).await,
        }
    }
}

/// Key sets by URL.
#[derive(Debug)]
pub struct Published {
    client: reqwest::Client,
    /// Each URL with what it gave last.
    sets: Vec<(String, RwLock<Option<JwkSet>>)>,
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
        Ok(Self { client, sets, fetched: Mutex::new(None), fetching: tokio::sync::Mutex::new(()) })
    }

    /// Fetches all sets now and every `interval`, until the keys are dropped; to be spawned.
    pub async fn refresh(this: std::sync::Weak<Self>, interval: Duration) {
        while let Some(keys) = this.upgrade() {
            keys.fetch().await;
            drop(keys);
            tokio::time::sleep(interval).await;
        }
    }

    async fn candidates(&self, id: Option<&str>) -> Result<Vec<DecodingKey>, RpcError> {
        let found = self.known(id);
        if !found.is_empty() {
            return Ok(found);
        }
        self.fetch_unless_fresh().await;
        if self.sets.iter().all(|(_, set)| set.read().is_none()) {
            return Err(RpcError::Unavailable("the issuer's keys are not known yet".into()));
        }
        Ok(self.known(id))
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
        for (url, set) in &self.sets {
            match self.fetch_one(url).await {
                Ok(found) => *set.write() = Some(found),
                Err(error) => {
                    tracing::warn!(url, error, "a key set could not be fetched; the last one stands");
                }
            }
        }
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
