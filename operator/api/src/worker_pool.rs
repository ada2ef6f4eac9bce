//! WorkerPool: pods that run actions of a grid, each in the user's own toolchain image.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{ByteSize, LocalRef, PodTemplate, SecretKeyRef, Span, conditions};
use crate::limits::ActionLimits;
use crate::network::PoolEgress;
use crate::work::{PersistentWorkers, PreemptionNotice};

/// Workers of one kind: one image, one set of platform properties.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "grid.build",
    version = "v1alpha1",
    kind = "WorkerPool",
    plural = "workerpools",
    shortname = "pool",
    category = "grid-build",
    namespaced,
    status = "WorkerPoolStatus",
    derive = "PartialEq",
    cel,
    doc = "Workers of a grid: pods that run actions in a toolchain image.",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    validation = ("size(self.metadata.name) <= 40", "a WorkerPool's name has at most 40 characters: names of pods are made from it"),
    printcolumn(name = "Grid", type_ = "string", json_path = ".spec.gridRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Concurrency", type_ = "integer", json_path = ".spec.concurrency"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.properties) || self.properties.all(p, self.properties.filter(q, q.name == p.name && q.value == p.value).size() == 1)", "a platform property is given twice with the same value"),
    validation = ("!(has(self.autoscaling) && has(self.replicas))", "spec.replicas is what spec.autoscaling decides: give one of them"),
    validation = ("!has(self.autoscaling) || has(self.gridRef.name)", "the demand is asked of the grid's Fleet service, with a token that the operator has for grids that it made: autoscaling needs gridRef.name; scale by spec.replicas or by KEDA"),
    validation = ("!has(self.seccompProfile) || self.isolation == 'bubblewrap'", "seccompProfile is for isolation bubblewrap: the other modes do with the runtime's own"),
    validation = ("!has(self.allowNetwork) || !self.allowNetwork || self.isolation == 'bubblewrap'", "allowNetwork is for isolation bubblewrap: in the other modes actions have the pod's network anyway"),
    validation = ("self.runtime == 'buildbox' || !has(self.buildbox)", "spec.buildbox is of runtime buildbox"),
    validation = ("self.runtime != 'buildbox' || (self.isolation != 'chroot' && !has(self.limits) && (!has(self.allowNetwork) || !self.allowNetwork))", "runtime buildbox runs actions by buildbox-run-hosttools (isolation plain) or buildbox-run-bubblewrap: chroot, limits and allowNetwork are grid-runner's"),
    validation = ("self.runtime != 'buildbox' || !(has(self.prefetch) && self.prefetch > 0 || has(self.persistentWorkers) || has(self.preemptionNotice))", "prefetch, persistentWorkers and preemptionNotice are grid-worker's: runtime buildbox has none of them"),
    validation = ("self.runtime != 'buildbox' || !has(self.autoscaling)", "autoscaling drains workers one by one, by what grid-worker tells of itself: with runtime buildbox scale by spec.replicas, an HPA or KEDA")
)]
pub struct WorkerPoolSpec {
    /// The grid whose actions it runs.
    pub grid_ref: GridRef,
    /// Image that the actions run in. Nothing has to be in it but the tools: the runner is brought along.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Platform properties that the workers offer, besides `OSFamily` and `ISA` of their node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub properties: Vec<PlatformProperty>,
    /// Actions that one pod runs at a time.
    #[serde(default = "WorkerPoolSpec::default_concurrency")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: i32,
    /// Number of pods; unset, it begins with one and is left to who scales the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: Option<i32>,
    /// Let the operator choose the number of pods by the actions that wait for this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Of several pools that fit an action, the one with the highest priority gets it.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// How an action is kept apart from the others of its pod. See docs/isolation.md for what each mode keeps apart.
    #[serde(default)]
    pub isolation: Isolation,
    /// Seccomp profile on the nodes (a Localhost profile) that lets the runner make user namespaces; without it
    /// isolation bubblewrap runs without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub seccomp_profile: Option<String>,
    /// What one action may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ActionLimits>,
    /// Let actions that ask for the network, by the property `network` or `dockerNetwork`, have that of the pod. In the
    /// other modes than bubblewrap all actions have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_network: bool,
    /// Actions whose inputs a pod fetches while others run, beyond its concurrency.
    #[serde(default, skip_serializing_if = "is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub prefetch: i32,
    /// Let processes that stay do the work of actions that ask for it; see docs/workers.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_workers: Option<PersistentWorkers>,
    /// How pods hear that their machine is about to be taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemption_notice: Option<PreemptionNotice>,
    /// The programs that take and run the actions.
    #[serde(default)]
    pub runtime: Runtime,
    /// Where BuildBox's programs are in the image, with runtime buildbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buildbox: Option<BuildboxSpec>,
    /// What the pods may reach over the network, where NetworkPolicies are enforced and the grid is named.
    #[serde(default)]
    pub egress: PoolEgress,
    /// Instance of the grid to serve.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub instance_name: String,
    /// The cache of inputs.
    #[serde(default)]
    pub cache: PoolCache,
    /// Resources of the containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<PoolResources>,
    /// Seconds that running actions have to finish when a pod is to leave.
    #[serde(default = "WorkerPoolSpec::default_grace_period")]
    #[schemars(range(min = 10, max = 86400))]
    pub grace_period_seconds: i64,
    /// Version of the worker's images; the grid's where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub version: Option<String>,
    /// Laid over the pods' template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// Leave everything as it is, whatever changes.
    #[serde(default)]
    pub paused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_none(number: &i32) -> bool {
    *number == 0
}

impl WorkerPoolSpec {
    fn default_concurrency() -> i32 {
        1
    }

    fn default_grace_period() -> i64 {
        600
    }
}

/// The number of pods by demand: at once up, and down after a while, idle workers first.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.minReplicas <= self.maxReplicas", "minReplicas must not be more than maxReplicas")
)]
pub struct Autoscaling {
    /// Pods that are there without any demand.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub min_replicas: i32,
    /// Pods at the highest demand.
    #[schemars(range(min = 1, max = 10000))]
    pub max_replicas: i32,
    /// How long an action may wait while workers are busy before more are started; at once where none is there.
    #[serde(default = "Autoscaling::default_target_queue_time")]
    pub target_queue_time: Span,
    /// How long fewer pods must have been enough before pods leave.
    #[serde(default = "Autoscaling::default_scale_down_delay")]
    pub scale_down_delay: Span,
}

impl Autoscaling {
    fn default_target_queue_time() -> Span {
        "5s".into()
    }

    fn default_scale_down_delay() -> Span {
        "5m".into()
    }
}

/// How an action is kept apart from the others of its pod.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// By its folder and process group only. Passes Pod Security `restricted`.
    #[default]
    Plain,
    /// By user namespaces, with the input root as `/`. Needs Pod Security `privileged`, for no stricter level allows
    /// a seccomp profile that lets namespaces be made; `restricted` with a Localhost profile by seccompProfile.
    Bubblewrap,
    /// By chroot into the input root, as a user of its own. Needs Pod Security `baseline`.
    Chroot,
}

/// The programs that take and run the actions.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Runtime {
    /// grid-worker and grid-runner.
    #[default]
    Grid,
    /// buildbox-casd and buildbox-worker, which are in the image, found by its PATH.
    Buildbox,
}

/// `runtime: buildbox`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct BuildboxSpec {
    /// The program that runs an action; by default `/usr/bin/buildbox-run-hosttools`, with isolation bubblewrap
    /// `/usr/bin/buildbox-run-bubblewrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^/.+$"))]
    pub run: Option<String>,
}

/// A grid of this namespace by name, or one elsewhere by address.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.name) != has(self.address)", "gridRef is either name, a BuildGrid of this namespace, or address, the Bots service of a grid elsewhere"),
    validation = ("!has(self.name) || !(has(self.casAddress) || has(self.tls) || has(self.credentials))", "casAddress, tls and credentials go with address: a grid that is named brings its own"),
    validation = ("!has(self.tls) || (has(self.address) && self.address.startsWith('https://'))", "tls is for an https:// address")
)]
pub struct GridRef {
    /// Name of a BuildGrid in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// URL of the Bots service of a grid elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://.+$"))]
    pub address: Option<String>,
    /// URL of that grid's CAS, where it isn't the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://.+$"))]
    pub cas_address: Option<String>,
    /// How the certificate of that grid is verified; by the well-known authorities where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<GridTls>,
    /// What the workers show that grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GridCredentials>,
}

/// Verification of a grid elsewhere.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridTls {
    /// The CA that signed its certificate, in PEM.
    pub ca_secret_ref: SecretKeyRef,
    /// A Secret of type kubernetes.io/tls with what the workers show, where that grid asks for certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_secret_ref: Option<LocalRef>,
}

/// What workers show a grid elsewhere.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridCredentials {
    /// The worker token.
    pub token_secret_ref: SecretKeyRef,
}

/// A platform property: a name and a value. A name may be given with several values.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct PlatformProperty {
    /// Name, as in the action's `Platform.Property`.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[^=\s]+$"))]
    pub name: String,
    /// Value, as in the action's `Platform.Property`.
    #[schemars(length(max = 512))]
    pub value: String,
}

/// Where inputs are cached and actions run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolCache {
    /// Bytes of inputs that a pod keeps. The volume is half as large again, for what actions write.
    #[serde(default = "PoolCache::default_size")]
    pub size: ByteSize,
    /// Use an ephemeral claim of this StorageClass; the node's own disk where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl PoolCache {
    fn default_size() -> ByteSize {
        "10Gi".into()
    }
}

impl Default for PoolCache {
    fn default() -> Self {
        Self { size: Self::default_size(), storage_class_name: None }
    }
}

/// Resources of the two containers of a worker pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct PoolResources {
    /// Of grid-worker, which fetches and uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<ResourceRequirements>,
    /// Of the runner, in which the actions run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<ResourceRequirements>,
}

/// What the operator saw and did.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerPoolStatus {
    /// The generation that this status tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded, DependenciesReady, Paused.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are wanted now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Pods whose worker takes actions.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods, for who scales the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Version of the worker's images in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
}
