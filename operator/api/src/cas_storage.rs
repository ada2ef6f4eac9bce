//! CasStorage: a content-addressable storage tier that grids of the namespace share.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{ByteSize, DeletionPolicy, PodTemplate, Span, VolumeSpec, conditions};
use crate::maintenance::MaintenanceSpec;
use crate::mutual_tls::MutualTlsSpec;
use crate::storages::NamedStorage;

/// A CAS tier: named storages, the one that is served, and how.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "grid.build",
    version = "v1alpha1",
    kind = "CasStorage",
    plural = "casstorages",
    shortname = "cas",
    category = "grid-build",
    namespaced,
    status = "CasStorageStatus",
    derive = "PartialEq",
    cel,
    doc = "A CAS tier that grids of the namespace use by spec.storageRef.",
    validation = ("size(self.metadata.name) <= 40", "a CasStorage's name has at most 40 characters: names of Services are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Serves", type_ = "string", json_path = ".spec.serve"),
    printcolumn(name = "Access", type_ = "string", json_path = ".status.access"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Freed", type_ = "integer", json_path = ".status.cleanup.bytesFreed", priority = 1),
    printcolumn(name = "Used-By", type_ = "string", json_path = ".status.usedBy", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.storages.exists(s, s.name == self.serve)", "spec.serve must be the name of one of spec.storages"),
    validation = ("has(self.volume) || !self.storages.exists(s, has(s.disk))", "a disk storage needs spec.volume"),
    validation = ("!has(self.volume) || self.storages.exists(s, has(s.disk))", "spec.volume is used by disk storages only, and there is none: remove it, or add a disk storage"),
    validation = ("has(self.volume) == has(oldSelf.volume)", "spec.volume can't be added to or removed from a tier that exists; make a new CasStorage and move to it"),
    validation = ("oldSelf.storages.all(o, !has(o.disk) || self.storages.exists(s, s.name == o.name && has(s.disk))) || self.storages.all(s, !has(s.disk) || oldSelf.storages.exists(o, o.name == s.name && has(o.disk)))", "a disk storage can't be renamed, nor take the place of another: its blobs lie on the volume under its name, and would neither be found nor expire; keep the name, or make a new CasStorage and move to it"),
    validation = ("oldSelf.storages.all(o, !has(o.sqlIndex) || self.storages.exists(s, s.name == o.name && has(s.sqlIndex))) || self.storages.all(s, !has(s.sqlIndex) || oldSelf.storages.exists(o, o.name == s.name && has(o.sqlIndex)))", "an index can't be renamed, nor take the place of another: it is in the database under its name, and without it no blob is found or expires; keep the name, or make a new CasStorage and move to it"),
    validation = ("oldSelf.storages.all(o, !has(o.s3) || self.storages.all(s, s.name != o.name || !has(s.s3) || (s.s3.bucket == o.s3.bucket && (has(s.s3.pathPrefix) ? s.s3.pathPrefix : '') == (has(o.s3.pathPrefix) ? o.s3.pathPrefix : '') && (has(s.s3.hashPrefixSize) ? s.s3.hashPrefixSize : 0) == (has(o.s3.hashPrefixSize) ? o.s3.hashPrefixSize : 0))))", "bucket, pathPrefix and hashPrefixSize of a storage can't change: its blobs lie there, and would neither be found nor expire; add a storage of another name, or make a new CasStorage and move to it"),
    validation = ("oldSelf.storages.all(o, !has(o.redis) || self.storages.all(s, s.name != o.name || !has(s.redis) || (has(s.redis.db) ? s.redis.db : 0) == (has(o.redis.db) ? o.redis.db : 0)))", "db of a storage can't change: its blobs are in that database, and would neither be found nor expire; add a storage of another name, or make a new CasStorage and move to it"),
    validation = ("self.storages.all(z, !has(z.zstd) || oldSelf.storages.exists(o, has(o.zstd) && o.zstd.storage == z.zstd.storage) || !oldSelf.storages.exists(o, o.name == z.zstd.storage)) && oldSelf.storages.all(z, !has(z.zstd) || self.storages.exists(o, has(o.zstd) && o.zstd.storage == z.zstd.storage) || !self.storages.exists(o, o.name == z.zstd.storage))", "a storage can't begin or cease to be packed by zstd: the blobs that it has would not be seen; give the packed ones a storage of their own, with another path, bucket or prefix"),
    validation = ("!has(self.cleanup) || self.storages.exists(s, has(s.sqlIndex))", "spec.cleanup works on an index: add a sqlIndex storage (a disk or lru storage keeps its size by itself)"),
    validation = ("!has(self.replicas) || self.replicas <= 1 || self.storages.filter(s, has(s.disk)).size() <= 1", "with several replicas each pod is a shard with one disk: give at most one disk storage"),
    validation = ("!self.storages.exists(s, has(s.disk)) || (has(self.replicas) ? self.replicas : 1) == (has(oldSelf.replicas) ? oldSelf.replicas : 1) || (has(oldSelf.replicas) && oldSelf.replicas == 0)", "the replicas of a tier on disks are its shards, and their number decides where blobs lie: make a new CasStorage and move to it"),
    validation = ("!has(self.replicas) || self.replicas <= 1 || !self.storages.exists(s, has(s.lru)) || self.storages.exists(s, has(s.withCache))", "an lru storage is the memory of one pod: use one replica, or put it as the cache of a withCache storage"),
    validation = ("self.deletionPolicy == 'Retain' || has(self.volume)", "deletionPolicy is of the volumes, and there are none: what lies elsewhere is never deleted with the tier")
)]
pub struct CasStorageSpec {
    /// The storages, each with its name.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub storages: Vec<NamedStorage>,
    /// Name of the storage that is served.
    #[schemars(length(min = 1, max = 40))]
    pub serve: String,
    /// Server pods. Where it is not given: none for a tier whose storages are all shared (S3, Redis, SQL, remote),
    /// for grids open it themselves, else one. A tier with a disk is sharded over its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 32))]
    pub replicas: Option<i32>,
    /// The volume of each pod, for disk storages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSpec>,
    /// Expiry of an indexed storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupSpec>,
    /// What becomes of the volumes when the CasStorage is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Version of the server images; the operator's own where it is not given, kept from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub version: Option<String>,
    /// Resources of each server container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Laid over the server pods' template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// Let only servers of grids and tiers of this namespace reach its servers, where NetworkPolicies are enforced.
    #[serde(default = "CasStorageSpec::default_network_policy")]
    pub network_policy: bool,
    /// Mutual TLS between its servers and those of grids, at port 50052 in place of the plain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutual_tls: Option<MutualTlsSpec>,
    /// When pods may be replaced for nothing but a newer operator; at any time where it is not given, one resource
    /// after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceSpec>,
    /// Run no servers and no expiry, and keep all data.
    #[serde(default)]
    pub hibernate: bool,
    /// Leave everything as it is, whatever changes; the CronJob of the cleanup alone is suspended meanwhile.
    #[serde(default)]
    pub paused: bool,
}

impl CasStorageSpec {
    fn default_network_policy() -> bool {
        true
    }
}

/// Expiry from the high watermark down to the low one, oldest first: by a CronJob, or by the server itself where the
/// blobs are on its volume.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("quantity(self.lowWatermark).isLessThan(quantity(self.highWatermark))", "lowWatermark must be less than highWatermark")
)]
pub struct CleanupSpec {
    /// When the CronJob runs, as a cron expression; a server looks all the time.
    #[serde(default = "CleanupSpec::default_schedule")]
    #[schemars(length(min = 9, max = 64))]
    pub schedule: String,
    /// It does something from this size on.
    pub high_watermark: ByteSize,
    /// And stops at this one.
    pub low_watermark: ByteSize,
    /// Bytes that are deleted at a time.
    #[serde(default = "CleanupSpec::default_batch_size")]
    pub batch_size: ByteSize,
    /// Blobs that were used within this time stay.
    #[serde(default = "CleanupSpec::default_only_if_unused_for")]
    pub only_if_unused_for: Span,
}

impl CleanupSpec {
    fn default_schedule() -> String {
        "*/10 * * * *".into()
    }

    fn default_batch_size() -> ByteSize {
        "1Gi".into()
    }

    fn default_only_if_unused_for() -> Span {
        "3h".into()
    }
}

/// What the operator saw and did.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CasStorageStatus {
    /// The generation that this status tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded, DependenciesReady, Paused.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// How grids reach it: `direct` where they open its storages themselves, else `remote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub access: Option<String>,
    /// Server pods that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Grids that use it, in alphabetical order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    pub used_by: Vec<String>,
    /// How the last run of the cleanup's CronJob that has ended did; it stays while the next one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupStatus>,
    /// Version of the server images in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
}

/// A run of the cleanup that has ended.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupStatus {
    /// Name of its Job.
    #[schemars(length(max = 253))]
    pub job: String,
    /// Whether it did what it had to.
    pub succeeded: bool,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Bytes that this run deleted: none, where there was nothing to do.
    pub bytes_freed: i64,
    /// Blobs that this run deleted.
    pub blobs_freed: i64,
}
