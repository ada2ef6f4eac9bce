//! Where a BuildGrid keeps the results of actions, and what it takes for one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{SecretKeyRef, Span};
use crate::storages::{RedisStorage, S3Credentials};

/// The cache of results: in the grid's database, where nothing else is said.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.sql), has(self.redis), has(self.s3), has(self.lru), has(self.remote)].filter(x, x).size() <= 1", "actionCache is one of sql, redis, s3, lru, remote; sql where none is given"),
    validation = ("!has(self.remote) || (self.allowUpdates && self.cacheFailedActions && !self.writeOnce)", "what a remote action cache takes is its own server's to say: leave allowUpdates, cacheFailedActions and writeOnce out")
)]
pub struct ActionCacheSpec {
    /// Keep results in the grid's database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlActionCache>,
    /// Keep results in Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStorage>,
    /// Keep results in a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3ActionCache>,
    /// Keep results in the memory of one server, this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lru: Option<LruActionCache>,
    /// Keep results in another server's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteActionCache>,
    /// Clients may write to it. The scheduler always may.
    #[serde(default = "ActionCacheSpec::default_true")]
    pub allow_updates: bool,
    /// Keep the results of actions that failed.
    #[serde(default = "ActionCacheSpec::default_true")]
    pub cache_failed_actions: bool,
    /// Keep the first result of an action for good.
    #[serde(default)]
    pub write_once: bool,
}

impl ActionCacheSpec {
    /// The keys of Secrets that servers read to open it.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretKeyRef> {
        let password = self.redis.iter().filter_map(|redis| redis.password.as_ref());
        let pairs = self.s3.iter().filter_map(|s3| s3.credentials.as_ref());
        let keys = pairs.flat_map(|pair| [&pair.access_key, &pair.secret_key]);
        password.chain(keys).collect()
    }

    fn default_true() -> bool {
        true
    }
}

impl Default for ActionCacheSpec {
    fn default() -> Self {
        Self {
            sql: None,
            redis: None,
            s3: None,
            lru: None,
            remote: None,
            allow_updates: true,
            cache_failed_actions: true,
            write_once: false,
        }
    }
}

/// Results in the grid's database.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlActionCache {
    /// Results that are kept; those that were not asked for the longest go first.
    #[serde(default = "SqlActionCache::default_max_entries")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_entries: i32,
    /// Results that nobody asked for this long go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_unused_after: Option<Span>,
}

impl SqlActionCache {
    fn default_max_entries() -> i32 {
        1_000_000
    }
}

impl Default for SqlActionCache {
    fn default() -> Self {
        Self { max_entries: Self::default_max_entries(), expire_unused_after: None }
    }
}

/// Results as objects of a bucket, which its own rules expire.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3ActionCache {
    /// The bucket.
    #[schemars(length(min = 1, max = 128))]
    pub bucket: String,
    /// URL of the service.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://.+$"))]
    pub endpoint: String,
    /// Where the keys are. Without them the pods' own identity is used: EKS Pod Identity or a role of the machine, or the role of
    /// a ServiceAccount that `spec.podTemplate` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<S3Credentials>,
}

/// Results in another server's cache.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteActionCache {
    /// `http://`, `https://`, `grpc://` or `grpcs://` URL of the server.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^(http|https|grpc|grpcs)://.+$"))]
    pub url: String,
    /// Instance to ask there; the one that is called here where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub instance_name: Option<String>,
}

/// Results in memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LruActionCache {
    /// Results that are kept.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_entries: i32,
}
