//! Storages: one variant a tag.

use std::path::PathBuf;
use std::time::Duration;

use super::{RedisConnection, Remote, Secret, Shared, SqlConnection};

/// A store of blobs.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful exist, each behind an Arc")]
pub enum Storage {
    /// `!lru-storage`
    Lru(LruStorage),
    /// `!disk-storage`
    Disk(DiskStorage),
    /// `!redis-storage`
    Redis(RedisStorage),
    /// `!s3-storage`
    S3(S3Storage),
    /// `!sql-storage`
    Sql(SqlStorage),
    /// `!remote-storage`
    Remote(RemoteStorage),
    /// `!with-cache-storage`
    WithCache(WithCacheStorage),
    /// `!size-differentiated-storage`
    SizeDifferentiated(SizeDifferentiatedStorage),
    /// `!sharded-storage`
    Sharded(ShardedStorage),
    /// `!replicated-storage`
    Replicated(ReplicatedStorage),
    /// `!sql-index`
    SqlIndex(SqlIndex),
    /// `!redis-index`
    RedisIndex(RedisIndex),
    /// `!redis-fmb-cache`
    RedisFmbCache(RedisFmbCache),
    /// `!existence-cache`
    ExistenceCache(ExistenceCache),
    /// `!zstd-storage`
    Zstd(ZstdStorage),
}

/// Blobs in memory.
#[derive(Debug, PartialEq)]
pub struct LruStorage {
    /// How many bytes are kept.
    pub size: u64,
}

/// Blobs as files.
#[derive(Debug, PartialEq)]
pub struct DiskStorage {
    /// The directory.
    pub path: PathBuf,
    /// How many bytes are kept; `None` for as many as there is room for.
    pub max_size: Option<u64>,
}

/// Blobs in Redis.
#[derive(Debug, PartialEq)]
pub struct RedisStorage {
    /// The connection.
    pub redis: Shared<RedisConnection>,
}

/// Blobs in S3.
#[derive(Debug, PartialEq)]
pub struct S3Storage {
    /// The bucket, or a template of `{digest[N]}` for several.
    pub bucket: String,
    /// The service's URL.
    pub endpoint: String,
    /// The access key and the secret key; `None` for what the environment gives.
    pub keys: Option<(Secret, Secret)>,
    /// How long a read may take for each kilobyte.
    pub read_timeout_per_kilobyte: Option<Duration>,
    /// How long a write may take for each kilobyte.
    pub write_timeout_per_kilobyte: Option<Duration>,
    /// How long any read may take.
    pub read_timeout_min: Duration,
    /// How long any write may take.
    pub write_timeout_min: Duration,
    /// Whether a deletion removes all versions.
    pub versioned_deletes: bool,
    /// How many digits of the hash make a folder.
    pub hash_prefix_size: usize,
    /// A folder to stay in.
    pub path_prefix: Option<String>,
}

/// Blobs in a database.
#[derive(Debug, PartialEq)]
pub struct SqlStorage {
    /// The database.
    pub sql: Shared<SqlConnection>,
}

/// The CAS of another server.
#[derive(Debug, PartialEq)]
pub struct RemoteStorage {
    /// The server.
    pub remote: Remote,
}

/// A fast storage before a lasting one.
#[derive(Debug, PartialEq)]
pub struct WithCacheStorage {
    /// The fast one.
    pub cache: Shared<Storage>,
    /// The lasting one.
    pub fallback: Shared<Storage>,
    /// Whether a write is done once the cache has it.
    pub defer_fallback_writes: bool,
    /// How many deferred writes run at once.
    pub fallback_writers: usize,
}

/// Storages by size.
#[derive(Debug, PartialEq)]
pub struct SizeDifferentiatedStorage {
    /// In ascending order of their limits.
    pub limited: Vec<SizeLimited>,
    /// For all larger blobs.
    pub fallback: Shared<Storage>,
}

/// One storage with its limit.
#[derive(Debug, PartialEq)]
pub struct SizeLimited {
    /// Blobs smaller than this go there.
    pub max_size: u64,
    /// The storage.
    pub storage: Shared<Storage>,
}

/// Storages by digest.
#[derive(Debug, PartialEq)]
pub struct ShardedStorage {
    /// The shards.
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Debug, PartialEq)]
pub struct Shard {
    /// Its name, which decides what is there.
    pub name: String,
    /// Its storage.
    pub storage: Shared<Storage>,
}

/// Storages that all hold everything.
#[derive(Debug, PartialEq)]
pub struct ReplicatedStorage {
    /// Two or more.
    pub storages: Vec<Shared<Storage>>,
    /// How many repairs may wait; 0 for none in the background.
    pub queue_size: usize,
    /// How many repairs run at once.
    pub workers: usize,
    /// Whether a read repairs.
    pub read_replication: bool,
}

/// An index in a database.
#[derive(Debug, PartialEq)]
pub struct SqlIndex {
    /// What is indexed.
    pub storage: Shared<Storage>,
    /// The database.
    pub sql: Shared<SqlConnection>,
    /// Tells it from other indexes in the same database.
    pub name: String,
    /// How many blobs a batch of a cleanup deletes at most.
    pub window_size: usize,
    /// How many digests a statement asks for.
    pub statement_limit: usize,
    /// Blobs up to this many bytes are in the index itself.
    pub max_inline_size: u64,
    /// The age at which an access time is written anew.
    pub refresh_access_after: Duration,
    /// How long a blob stays after a client was told of it.
    pub promised_lifetime: Duration,
}

/// An index in Redis.
#[derive(Debug, PartialEq)]
pub struct RedisIndex {
    /// What is indexed.
    pub storage: Shared<Storage>,
    /// The connection.
    pub redis: Shared<RedisConnection>,
    /// What its keys start with.
    pub prefix: String,
    /// How long a blob stays after a client was told of it.
    pub promised_lifetime: Duration,
}

/// Existence, remembered in Redis.
#[derive(Debug, PartialEq)]
pub struct RedisFmbCache {
    /// What is asked otherwise.
    pub storage: Shared<Storage>,
    /// The connection.
    pub redis: Shared<RedisConnection>,
    /// How long it is remembered.
    pub ttl: Duration,
    /// What its keys start with.
    pub prefix: String,
}

/// Existence, remembered in the server's memory.
#[derive(Debug, PartialEq)]
pub struct ExistenceCache {
    /// What is asked otherwise.
    pub storage: Shared<Storage>,
    /// How long it is remembered.
    pub ttl: Duration,
    /// Of how many blobs at most.
    pub max_entries: u64,
}

/// Packed blobs.
#[derive(Debug, PartialEq)]
pub struct ZstdStorage {
    /// The backend that holds them: a disk, Redis, S3 or a database.
    pub storage: Shared<Storage>,
    /// How hard they are packed.
    pub level: u16,
}
