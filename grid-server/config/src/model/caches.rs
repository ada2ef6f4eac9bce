//! Action caches: one variant a tag.

use std::time::Duration;

use super::{RedisConnection, Remote, Secret, Shared, SqlConnection, Storage};

/// A store of action results.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful exist, each behind an Arc")]
pub enum ActionCache {
    /// `!lru-action-cache`
    Lru(LruActionCache),
    /// `!redis-action-cache`
    Redis(RedisActionCache),
    /// `!s3action-cache`
    S3(S3ActionCache),
    /// `!sql-action-cache`
    Sql(SqlActionCache),
    /// `!remote-action-cache`
    Remote(RemoteActionCache),
    /// `!with-cache-action-cache`
    WithCache(WithCacheActionCache),
    /// `!mirrored-action-cache`
    Mirrored(MirroredActionCache),
    /// `!sharded-action-cache`
    Sharded(ShardedActionCache),
    /// `!write-once-action-cache`
    WriteOnce(WriteOnceActionCache),
}

/// What a cache takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// Whether clients may write.
    pub allow_updates: bool,
    /// Whether results with an exit code other than 0 are kept.
    pub cache_failed_actions: bool,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// The digest of the result, which is in the storage.
    ActionResultDigest,
    /// The result.
    ActionResult,
}

/// How entries are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntries {
    /// What an entry holds.
    pub entry_type: EntryType,
    /// Whether an entry of the other type is rewritten when it is read.
    pub migrate: bool,
    /// A part of every key.
    pub salt: Option<String>,
}

/// Results in memory.
#[derive(Debug, PartialEq)]
pub struct LruActionCache {
    /// What the results name.
    pub storage: Shared<Storage>,
    /// How many results are kept.
    pub max_refs: usize,
    /// What it takes.
    pub policy: CachePolicy,
}

/// Results in Redis.
#[derive(Debug, PartialEq)]
pub struct RedisActionCache {
    /// What the results name.
    pub storage: Shared<Storage>,
    /// The connection.
    pub redis: Shared<RedisConnection>,
    /// What it takes.
    pub policy: CachePolicy,
    /// How entries are kept.
    pub entries: CacheEntries,
}

/// Results in S3.
#[derive(Debug, PartialEq)]
pub struct S3ActionCache {
    /// What the results name.
    pub storage: Shared<Storage>,
    /// The bucket.
    pub bucket: String,
    /// The service's URL.
    pub endpoint: String,
    /// The access key and the secret key; `None` for what the environment gives.
    pub keys: Option<(Secret, Secret)>,
    /// What it takes.
    pub policy: CachePolicy,
    /// How entries are kept.
    pub entries: CacheEntries,
}

/// Results in a database.
#[derive(Debug, PartialEq)]
pub struct SqlActionCache {
    /// What the results name.
    pub storage: Shared<Storage>,
    /// The database; `None` for the embedded one.
    pub sql: Option<Shared<SqlConnection>>,
    /// How many results are kept.
    pub max_entries: u64,
    /// How long a result is kept that nobody asks for.
    pub expire_unused_after: Option<Duration>,
    /// What it takes.
    pub policy: CachePolicy,
    /// Tells it from other caches in the same database.
    pub salt: Option<String>,
}

/// The action cache of another server.
#[derive(Debug, PartialEq)]
pub struct RemoteActionCache {
    /// The server.
    pub remote: Remote,
}

/// A fast cache before a lasting one.
#[derive(Debug, PartialEq)]
pub struct WithCacheActionCache {
    /// The fast one.
    pub cache: Shared<ActionCache>,
    /// The lasting one.
    pub fallback: Shared<ActionCache>,
    /// What it takes.
    pub policy: CachePolicy,
}

/// Two caches that are kept alike.
#[derive(Debug, PartialEq)]
pub struct MirroredActionCache {
    /// The one that answers.
    pub first: Shared<ActionCache>,
    /// The one that is compared.
    pub second: Shared<ActionCache>,
}

/// Caches by action digest.
#[derive(Debug, PartialEq)]
pub struct ShardedActionCache {
    /// The shards.
    pub shards: Vec<CacheShard>,
    /// What it takes.
    pub policy: CachePolicy,
    /// A part of what is hashed.
    pub salt: Option<String>,
}

/// One shard.
#[derive(Debug, PartialEq)]
pub struct CacheShard {
    /// Its name, which decides what is there.
    pub name: String,
    /// Its cache.
    pub cache: Shared<ActionCache>,
}

/// A cache whose entries are never replaced.
#[derive(Debug, PartialEq)]
pub struct WriteOnceActionCache {
    /// The cache with the entries.
    pub action_cache: Shared<ActionCache>,
}
