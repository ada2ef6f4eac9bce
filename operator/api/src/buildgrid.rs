//! BuildGrid: the control plane of a build grid, from one pod with everything in it to servers of their own for
//! each service.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action_cache::ActionCacheSpec;
use crate::authorization::AuthorizationSpec;
use crate::common::{
    ConfigMapKeyRef, DeletionPolicy, LocalRef, PodTemplate, SecretKeyRef, VolumeSpec, conditions,
};
use crate::edges::{GrpcWebSpec, RatesSpec, TracingSpec};
use crate::entry::{GatewaySpec, IngressSpec, TlsSpec};
use crate::insight::MonitoringSpec;
use crate::maintenance::MaintenanceSpec;
use crate::mutual_tls::MutualTlsSpec;
use crate::network::NetworkPolicySpec;
use crate::services::{ExecutionSpec, RemoteAssetSpec, ServicesSpec};

/// Annotation of a BuildGrid that hibernates: a time in RFC 3339 until which it is awake all the same.
pub const WAKE_ANNOTATION: &str = "grid.build/wake-until";

/// Annotation of a BuildGrid: any text. Another one than before has the grid's tokens replaced, while builds run.
pub const ROTATE_ANNOTATION: &str = "grid.build/rotate-tokens";

/// A build grid. `spec: {}` is a whole one, in one pod.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "grid.build",
    version = "v1alpha1",
    kind = "BuildGrid",
    plural = "buildgrids",
    shortname = "grid",
    category = "grid-build",
    namespaced,
    status = "BuildGridStatus",
    derive = "PartialEq",
    cel,
    doc = "A build grid: remote execution and remote cache for Bazel, BuildStream, recc and their like.",
    validation = ("size(self.metadata.name) <= 40", "a BuildGrid's name has at most 40 characters: names of Services are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Topology", type_ = "string", json_path = ".spec.topology"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(has(self.storage) && has(self.storageRef))", "give spec.storage, a store inside this grid, or spec.storageRef, a CasStorage, but not both"),
    validation = ("self.topology != 'split' || has(self.database)", "topology split needs spec.database: servers of their own share the state that is in it"),
    validation = ("self.topology == 'split' || !has(self.services) || !(has(self.services.execution) || has(self.services.bots) || has(self.services.cas) || has(self.services.actionCache))", "services.execution, bots, cas and actionCache are servers of their own with topology split only; use services.server"),
    validation = ("self.topology != 'split' || !has(self.services) || !has(self.services.server)", "services.server is the server of topology combined; with split use services.execution, bots, cas and actionCache"),
    validation = ("!has(self.services) || !has(self.services.server) || self.services.server.replicas <= 1 || (has(self.database) && (has(self.storageRef) || (has(self.configFrom) && !has(self.storage))))", "several replicas need state that they share: spec.database and spec.storageRef"),
    validation = ("!has(self.services) || !has(self.services.cas) || self.services.cas.replicas <= 1 || has(self.storageRef)", "several CAS replicas need spec.storageRef: the store inside a grid is the disk of one pod"),
    validation = ("!has(self.actionCache) || !has(self.actionCache.lru) || !has(self.services) || !((has(self.services.server) && self.services.server.replicas > 1) || (has(self.services.actionCache) && self.services.actionCache.replicas > 1))", "an lru action cache is the memory of one pod: use one replica, or leave actionCache.lru out"),
    validation = ("self.topology != 'split' || !has(self.authorization) || !has(self.actionCache.lru)", "an lru action cache is the memory of one server, which lets no other server record results where callers have to be known: use actionCache.sql, or topology combined"),
    validation = ("!has(self.tls) || has(self.ingress)", "spec.tls is of the ingress, and there is none: add spec.ingress"),
    validation = ("!(has(self.ingress) && has(self.gateway))", "give spec.ingress or spec.gateway, but not both"),
    validation = ("!has(self.authorization) || !has(self.authorization.jwt) || !has(self.tls) || !has(self.tls.disabled)", "tokens would cross the network in plain text: take spec.tls.disabled away, or spec.authorization.jwt"),
    validation = ("!has(self.ingress) || !has(self.ingress.bots) || !self.ingress.bots || !has(self.tls) || !has(self.tls.disabled)", "the worker token would cross the network in plain text: take spec.tls.disabled away, or spec.ingress.bots"),
    validation = ("!((has(self.ingress) && has(self.ingress.bots) && self.ingress.bots) || (has(self.gateway) && has(self.gateway.bots) && self.gateway.bots)) || (self.execution.enabled && !has(self.mutualTls))", "bots leads workers elsewhere to the grid by its worker token: there are none without execution, and with mutualTls Bots takes certificates alone, which end at the way in"),
    validation = ("!has(self.configFrom) || (self.topology == 'combined' && !has(self.storageRef) && !has(self.authorization) && self.instances == [''] && !has(self.actionCache.lru) && !has(self.actionCache.sql) && !has(self.actionCache.redis) && !has(self.actionCache.s3) && !has(self.actionCache.remote) && self.actionCache.allowUpdates && self.actionCache.cacheFailedActions && !self.actionCache.writeOnce)", "configFrom is the whole configuration: say instances, storage, action cache and authorization there, and leave topology, storageRef, authorization, instances and actionCache out here"),
    validation = ("!has(self.configFrom) || !(has(self.execution.matchPropertyKeys) || has(self.execution.wildcardPropertyKeys))", "configFrom is the whole configuration: say property keys there"),
    validation = ("!has(self.configFrom) || !has(self.mutualTls)", "configFrom is the whole configuration: say channels and credentials there, and leave mutualTls out here"),
    validation = ("!has(self.configFrom) || !(has(self.tracing) || has(self.rates) || has(self.grpcWeb))", "configFrom is the whole configuration: say tracing, rates and grpc-web there"),
    validation = ("!has(self.rates) || !has(self.rates.perSubject) || has(self.authorization)", "rates.perSubject needs spec.authorization: without it no caller has a subject"),
    validation = ("self.topology != 'split' || self.execution.enabled", "a grid without execution has nothing to split: use topology combined"),
    validation = ("self.topology == oldSelf.topology || has(self.storageRef) || (has(oldSelf.configFrom) && has(oldSelf.database) && !has(oldSelf.storage))", "topology can't change while the blobs are on the grid's own volume, which belongs to one kind of server: move them to a CasStorage and name it in spec.storageRef, or make a new BuildGrid"),
    validation = ("(has(self.storageRef) || (has(oldSelf.storageRef) == has(self.storageRef)))", "spec.storageRef can't be taken away: the blobs are there; make a new BuildGrid")
)]
pub struct BuildGridSpec {
    /// Instances that the grid serves, all alike. The one without a name is `""`.
    #[serde(default = "BuildGridSpec::default_instances")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 255)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(
        validation = ("!self.exists(i, i == 'unnamed')", "an instance can't be called unnamed: metrics use that name for the one without a name"),
        validation = ("self.all(i, i == '' || !i.split('/').exists(s, s in ['', 'blobs', 'uploads', 'actions', 'actionResults', 'operations', 'capabilities', 'compressed-blobs']))", "no segment of an instance's name may be empty or one of blobs, uploads, actions, actionResults, operations, capabilities, compressed-blobs")
    )]
    pub instances: Vec<String>,
    /// The servers: all services in one kind of server, or a server for each of Execution, Bots, CAS, ActionCache. It can be
    /// changed where the blobs are in a CasStorage.
    #[serde(default)]
    pub topology: Topology,
    /// The store inside the grid, on a volume; used where there is no storageRef.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<EmbeddedStorage>,
    /// A CasStorage of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_ref: Option<LocalRef>,
    /// PostgreSQL for the queue; SQLite on the grid's volume where it is not given. Nothing is carried over from one to the
    /// other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSpec>,
    /// Replicas and resources of the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesSpec>,
    /// How actions are queued and run.
    #[serde(default)]
    pub execution: ExecutionSpec,
    /// The cache of results.
    #[serde(default)]
    pub action_cache: ActionCacheSpec,
    /// Clients may have large blobs split into chunks and put together from them (`SplitBlob`, `SpliceBlob` and the calls that
    /// succeed them), so that what they have of a blob already need not be sent; so it is where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunking: Option<bool>,
    /// Contents by their URIs.
    #[serde(default)]
    pub remote_asset: RemoteAssetSpec,
    /// The way in from outside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// The way in by the Gateway API instead of an Ingress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewaySpec>,
    /// TLS at the ingress; a certificate that the operator signs where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Mutual TLS between the grid's servers, its workers and the operator, at port 50052 beside the plain one for clients
    /// and the way in. Without it the parts speak in plain text, and tokens alone tell workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutual_tls: Option<MutualTlsSpec>,
    /// How callers from outside are known; without it whoever reaches the grid may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationSpec>,
    /// Who may reach the grid's pods over the network.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// Objects of the Prometheus operator and a dashboard for Grafana.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<MonitoringSpec>,
    /// Where OpenTelemetry traces of calls and actions are sent; nowhere where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingSpec>,
    /// How many calls a second callers may make; any number where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<RatesSpec>,
    /// gRPC-web for pages in browsers; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<GrpcWebSpec>,
    /// The server's whole configuration as BuildGrid's YAML, in place of the one that the operator writes. It runs in
    /// topology combined. Keys of Secrets that it reads by `!read-file /etc/grid/secrets/SECRET/KEY` are mounted
    /// there; `admin`, `state-directory` and `grid-credentials` are added where they are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_from: Option<ConfigMapKeyRef>,
    /// Version of the server images; the operator's own where it is not given, kept from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub version: Option<String>,
    /// Laid over the server pods' templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// When pods may be replaced for nothing but a newer operator, those of the grid's pools too; at any time where it is not given, one resource
    /// after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceSpec>,
    /// What the grid's autoscaled pools may have together; where it is not given, each has its own limit alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_budget: Option<WorkerBudget>,
    /// Run no pods, neither servers nor those of the grid's pools, and keep all data. The annotation
    /// `grid.build/wake-until` with a time in RFC 3339 wakes the grid until then.
    #[serde(default)]
    pub hibernate: bool,
    /// Leave everything as it is, whatever changes.
    #[serde(default)]
    pub paused: bool,
}

impl BuildGridSpec {
    fn default_instances() -> Vec<String> {
        vec![String::new()]
    }
}

/// What pools may have together.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerBudget {
    /// Pods of all autoscaled pools of the grid together. Pools with a higher priority come first; none loses a worker that runs
    /// something.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_replicas: i32,
}

/// How the services are laid out over servers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Topology {
    /// Every server has every service.
    #[default]
    Combined,
    /// Execution, Bots, CAS and ActionCache are servers of their own.
    Split,
}

/// A store on the volume of the grid's one pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStorage {
    /// The volume: blobs take 85 % of it, oldest out first; the queue and the action cache lie beside them.
    #[serde(default)]
    pub volume: VolumeSpec,
    /// What becomes of the volume when the grid is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A PostgreSQL database.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// The key that holds its URI. CloudNativePG's Secret fits as it is, with the key `uri`.
    pub secret_ref: SecretKeyRef,
    /// The CA in PEM that signed the database's certificate: connections are then made by TLS alone, and the certificate and the
    /// host's name are verified. It goes for every PostgreSQL that the grid's servers open; what a URI says of `sslmode`
    /// goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// What the operator saw and did.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildGridStatus {
    /// The generation that this status tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded, DependenciesReady, MigrationSucceeded, ClientsAuthenticated, StateLeftBehind, Hibernated, Paused.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Where clients reach the grid: `grpcs://` or `grpc://`, host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub address: Option<String>,
    /// The ConfigMap with ready-made configuration for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub clients_config_map: Option<String>,
    /// Version of the server images in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// The kind of database that the servers use: `sqlite`, on the grid's volume, or `postgresql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub database: Option<String>,
}
