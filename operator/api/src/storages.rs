//! The storages that a CasStorage composes: backends and decorators, each with a name, referring to each other by
//! name.
//!
//! A CRD schema can't recurse, so names play the part that anchors play in the server's YAML. Every kind here
//! is one tag there (`lru` is `!lru-storage`, `withCache` is `!with-cache-storage`, …). What a single entry shows
//! is checked by CEL; unknown names and cycles are found by the controller.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{ByteSize, LocalRef, SecretKeyRef, Span};

/// One storage: a name and exactly one kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "[has(self.lru), has(self.disk), has(self.s3), has(self.redis), has(self.sql), has(self.remote), has(self.withCache), has(self.sizeDifferentiated), has(self.sharded), has(self.replicated), has(self.sqlIndex), has(self.zstd)].filter(x, x).size() == 1",
        "a storage is exactly one of lru, disk, s3, redis, sql, remote, withCache, sizeDifferentiated, sharded, replicated, sqlIndex, zstd"
    )
)]
pub struct NamedStorage {
    /// The name by which other storages and `spec.serve` refer to it.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Memory of one server, lost when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lru: Option<LruStorage>,
    /// The volume of one server pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskStorage>,
    /// A bucket of an S3 service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    /// A Redis server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStorage>,
    /// A table in PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlStorage>,
    /// Another CAS server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteStorage>,
    /// A fast storage in front of a durable one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_cache: Option<WithCacheStorage>,
    /// Blobs go to one storage or another by their size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_differentiated: Option<SizeDifferentiatedStorage>,
    /// Blobs are spread over storages by their digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharded: Option<ShardedStorage>,
    /// Every blob is kept in each of several storages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated: Option<ReplicatedStorage>,
    /// An index in PostgreSQL of what another storage holds, needed for expiry of S3 and Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql_index: Option<SqlIndex>,
    /// Blobs packed by Zstandard in a disk, S3, Redis or SQL storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zstd: Option<ZstdStorage>,
}

/// `!lru-storage`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct LruStorage {
    /// Memory that the blobs may take.
    pub size: ByteSize,
}

/// `!disk-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct DiskStorage {
    /// Bytes that the blobs may take; 85 % of the volume where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
}

/// `!s3-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Storage {
    /// Bucket; `{digest[0]}` and the like stand for characters of the hash, to spread over buckets.
    #[schemars(length(min = 1, max = 128))]
    pub bucket: String,
    /// URL of the service.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://.+$"))]
    pub endpoint: String,
    /// Where the keys are. Without them the pods' own identity is used: EKS Pod Identity or a role of the machine, or the role of
    /// a ServiceAccount that `spec.podTemplate` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<S3Credentials>,
    /// Put before every key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub path_prefix: Option<String>,
    /// Characters of the hash that become a folder of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub hash_prefix_size: Option<i32>,
}

/// The two halves of an S3 credential, as keys of Secrets.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// The access key id.
    pub access_key: SecretKeyRef,
    /// The secret access key.
    pub secret_key: SecretKeyRef,
}

/// `!redis-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisStorage {
    /// Host name of the server.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port of the server.
    #[serde(default = "RedisStorage::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Number of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub db: Option<i32>,
    /// The password, where the server asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKeyRef>,
}

impl RedisStorage {
    fn default_port() -> i32 {
        6379
    }
}

/// `!sql-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlStorage {
    /// A key that holds a PostgreSQL URI.
    pub database: SecretKeyRef,
}

/// `!remote-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.credentials) || self.url.startsWith('https://') || self.url.startsWith('grpcs://') || !(has(self.credentials.caSecretRef) || has(self.credentials.certificateSecretRef))", "caSecretRef and certificateSecretRef are for an https:// or grpcs:// url")
)]
pub struct RemoteStorage {
    /// `http://`, `https://`, `grpc://` or `grpcs://` URL of the server.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^(http|https|grpc|grpcs)://.+$"))]
    pub url: String,
    /// Instance to ask there.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub instance_name: String,
    /// What is shown to that server, and how it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RemoteCredentials>,
}

/// What a connection to another server shows.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteCredentials {
    /// A bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The CA that signed its certificate, in PEM; the well-known ones where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// A Secret of type kubernetes.io/tls with a certificate of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_secret_ref: Option<LocalRef>,
}

/// `!with-cache-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WithCacheStorage {
    /// Name of the fast storage.
    #[schemars(length(min = 1, max = 40))]
    pub cache: String,
    /// Name of the storage that is asked what exists.
    #[schemars(length(min = 1, max = 40))]
    pub fallback: String,
    /// Answer a write when the cache has it, and write to the fallback afterwards.
    #[serde(default)]
    pub defer_fallback_writes: bool,
}

/// `!size-differentiated-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizeDifferentiatedStorage {
    /// Storages for the small blobs.
    #[schemars(length(min = 1, max = 8))]
    pub size_limited_storages: Vec<SizeLimited>,
    /// Name of the storage for everything larger.
    #[schemars(length(min = 1, max = 40))]
    pub fallback: String,
}

/// A storage and the size below which a blob belongs to it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizeLimited {
    /// Blobs smaller than this.
    pub max_size: ByteSize,
    /// Name of the storage.
    #[schemars(length(min = 1, max = 40))]
    pub storage: String,
}

/// `!sharded-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct ShardedStorage {
    /// Names of the storages. The name decides where a blob lies: renaming one moves its blobs.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 40)))]
    pub shards: Vec<String>,
}

/// `!replicated-storage`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedStorage {
    /// Names of the storages.
    #[schemars(length(min = 2, max = 8), inner(length(min = 1, max = 40)))]
    pub storages: Vec<String>,
    /// Copies that may wait to be made of blobs that were asked for and that one of the storages lacks; a read puts
    /// missing copies back in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub copy_queue_size: Option<i32>,
}

/// `!sql-index`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlIndex {
    /// Name of the storage that holds the blobs.
    #[schemars(length(min = 1, max = 40))]
    pub storage: String,
    /// A key that holds a PostgreSQL URI.
    pub database: SecretKeyRef,
    /// Blobs up to this size are kept in the index itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_inline_blob_size: Option<ByteSize>,
    /// How long a blob stays after a client was told of it; 3 hours where it is not given, which is how long Bazel
    /// relies on it. Expiry keeps what is younger, whatever the watermarks say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promised_lifetime: Option<Span>,
}

/// `!zstd-storage`: what the backend behind it may hold is counted packed, an index in front of it counts the blobs' own sizes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct ZstdStorage {
    /// Name of the disk, s3, redis or sql storage that holds the packed blobs, which nothing else refers to. Those that it
    /// held before are not seen.
    #[schemars(length(min = 1, max = 40))]
    pub storage: String,
    /// How hard blobs are packed: 1 is fast, 19 is small; 3 where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 19))]
    pub level: Option<i32>,
}

/// The kind of a storage, borrowed: what exactly one of [`NamedStorage`]'s fields says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is the field of the same name")]
pub enum StorageKind<'a> {
    Lru(&'a LruStorage),
    Disk(&'a DiskStorage),
    S3(&'a S3Storage),
    Redis(&'a RedisStorage),
    Sql(&'a SqlStorage),
    Remote(&'a RemoteStorage),
    WithCache(&'a WithCacheStorage),
    SizeDifferentiated(&'a SizeDifferentiatedStorage),
    Sharded(&'a ShardedStorage),
    Replicated(&'a ReplicatedStorage),
    SqlIndex(&'a SqlIndex),
    Zstd(&'a ZstdStorage),
}

impl NamedStorage {
    /// The one kind that is given; nothing where the entry has none, which the schema refuses.
    #[must_use]
    pub fn kind(&self) -> Option<StorageKind<'_>> {
        use StorageKind as K;
        None.or(self.lru.as_ref().map(K::Lru))
            .or(self.disk.as_ref().map(K::Disk))
            .or(self.s3.as_ref().map(K::S3))
            .or(self.redis.as_ref().map(K::Redis))
            .or(self.sql.as_ref().map(K::Sql))
            .or(self.remote.as_ref().map(K::Remote))
            .or(self.with_cache.as_ref().map(K::WithCache))
            .or(self.size_differentiated.as_ref().map(K::SizeDifferentiated))
            .or(self.sharded.as_ref().map(K::Sharded))
            .or(self.replicated.as_ref().map(K::Replicated))
            .or(self.sql_index.as_ref().map(K::SqlIndex))
            .or(self.zstd.as_ref().map(K::Zstd))
    }
}

impl StorageKind<'_> {
    /// Names of the storages that this one refers to, in the order in which it does.
    #[must_use]
    pub fn references(&self) -> Vec<&str> {
        match self {
            Self::Lru(_) | Self::Disk(_) | Self::S3(_) | Self::Redis(_) | Self::Sql(_) | Self::Remote(_) => {
                vec![]
            }
            Self::WithCache(s) => vec![&s.cache, &s.fallback],
            Self::SizeDifferentiated(s) => s
                .size_limited_storages
                .iter()
                .map(|l| l.storage.as_str())
                .chain([s.fallback.as_str()])
                .collect(),
            Self::Sharded(s) => s.shards.iter().map(String::as_str).collect(),
            Self::Replicated(s) => s.storages.iter().map(String::as_str).collect(),
            Self::SqlIndex(s) => vec![&s.storage],
            Self::Zstd(s) => vec![&s.storage],
        }
    }
}
