//! The three custom resources of `grid.build/v1alpha1`: BuildGrid, CasStorage and WorkerPool.
//!
//! Types, defaults and CEL rules: everything that the API server can check alone is said here, so that a
//! wrong manifest is refused when it is applied. What lies behind a reference is the controllers' to check.
//! This crate has no client and makes no request.
//!
//! Two rules hold for every type here: no field is accepted and then ignored, and every string, list and map
//! is bounded, for the API server budgets CEL by these bounds.

#![allow(unreachable_pub, reason = "the schema derive makes public types that stay inside their module")]

mod action_cache;
mod authorization;
mod buildgrid;
mod cas_storage;
mod common;
mod edges;
mod entry;
mod generate;
mod insight;
mod limits;
mod maintenance;
mod mutual_tls;
mod network;
mod services;
mod storages;
mod work;
mod worker_pool;

pub use action_cache::{ActionCacheSpec, LruActionCache, RemoteActionCache, S3ActionCache, SqlActionCache};
pub use authorization::{AuthorizationSpec, JwtAlgorithm, JwtSpec};
pub use buildgrid::{
    BuildGrid, BuildGridSpec, BuildGridStatus, DatabaseSpec, EmbeddedStorage, ROTATE_ANNOTATION, Topology,
    WAKE_ANNOTATION, WorkerBudget,
};
pub use cas_storage::{CasStorage, CasStorageSpec, CasStorageStatus, CleanupSpec, CleanupStatus};
pub use common::{
    ByteSize, ConfigMapKeyRef, DeletionPolicy, Empty, LocalRef, PodTemplate, PodTemplateMetadata,
    SecretKeyRef, Span, VolumeSpec,
};
pub use edges::{GrpcWebSpec, RatesSpec, TracingSpec};
pub use entry::{
    CertManager, ExtraRoute, GatewaySpec, IngressSpec, IssuerKind, IssuerRef, ParentRef, RouteBackend,
    SelfSigned, TlsSpec,
};
pub use generate::crds;
pub use insight::MonitoringSpec;
pub use limits::ActionLimits;
pub use maintenance::{MaintenanceSpec, MaintenanceWindow, Weekday};
pub use mutual_tls::{MutualTlsSecrets, MutualTlsSpec};
pub use network::{NetworkPolicySpec, PoolEgress};
pub use services::{ExecutionSpec, RemoteAssetSpec, ServiceSpec, ServicesSpec};
pub use storages::{
    DiskStorage, LruStorage, NamedStorage, RedisStorage, RemoteCredentials, RemoteStorage, ReplicatedStorage,
    S3Credentials, S3Storage, ShardedStorage, SizeDifferentiatedStorage, SizeLimited, SqlIndex, SqlStorage,
    StorageKind, WithCacheStorage, ZstdStorage,
};
pub use work::{PersistentWorkers, PreemptionNotice};
pub use worker_pool::{
    Autoscaling, BuildboxSpec, GridCredentials, GridRef, GridTls, Isolation, PlatformProperty, PoolCache,
    PoolResources, Runtime, WorkerPool, WorkerPoolSpec, WorkerPoolStatus,
};

/// The API group of every resource.
pub const GROUP: &str = "grid.build";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";
