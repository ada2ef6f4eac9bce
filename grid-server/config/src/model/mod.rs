//! What a configuration says, as plain data.
//!
//! Every tagged object is a [`Shared`]: where two places of a document name one anchor, they hold the same `Arc`, so that
//! composing it once is a matter of remembering addresses. The data is validated; nothing here opens or connects to anything.

mod authorization;
mod caches;
mod cleanup;
mod connections;
mod scheduler;
mod server;
mod services;
mod shared;
mod storages;

pub use authorization::{Algorithm, Authorization, AuthorizationServer, Jwt, JwtKeys, Method};
pub use caches::{
    ActionCache, CacheEntries, CachePolicy, CacheShard, EntryType, LruActionCache, MirroredActionCache,
    RedisActionCache, RemoteActionCache, S3ActionCache, ShardedActionCache, SqlActionCache,
    WithCacheActionCache, WriteOnceActionCache,
};
pub use cleanup::{BlobCounts, Cleanup, LargeBlobs};
pub use connections::{
    ClientCredentials, ClientOptions, LoadBalancing, RedisConnection, Remote, ServerOptions, SqlConnection,
};
pub use scheduler::{
    Assignment, Cohort, Database, DynamicSet, InstancedLimit, InstancedUrl, Metering, PropertyLabel,
    PropertySet, Pruner, QueueTimeout, Scheduler, StaticSet,
};
pub use server::{
    Admin, Channel, Compression, Endpoint, GridCredentials, GrpcWeb, HealthOf, Instance, Monitoring,
    MonitoringFormat, MonitoringTarget, Pod, Rates, ServerConfig, ServerCredentials, TagFormat, Tracing,
    Transport,
};
pub use services::{
    ActionCacheService, AssetFetch, Bots, BuildEvents, ByteStream, Cas, Endpoints, Execution, Fleet,
    Introspection, LogStream, Operations, Quota, RemoteAsset, SchedulerOverrides, ServerService, Service,
};
pub use shared::{Item, Place, Secret, Shared};
pub use storages::{
    DiskStorage, ExistenceCache, LruStorage, RedisFmbCache, RedisIndex, RedisStorage, RemoteStorage,
    ReplicatedStorage, S3Storage, Shard, ShardedStorage, SizeDifferentiatedStorage, SizeLimited, SqlIndex,
    SqlStorage, Storage, WithCacheStorage, ZstdStorage,
};
