//! BuildGrid: the control plane of a build grid, from one pod with everything in it to servers of their own for
//! each service.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{
    DeletionPolicy, Empty, LocalRef, PodTemplate, SecretKeyRef, Span, VolumeSpec, conditions,
};

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
    validation = ("!has(self.services) || !has(self.services.server) || self.services.server.replicas <= 1 || (has(self.database) && has(self.storageRef))", "several replicas need state that they share: spec.database and spec.storageRef"),
    validation = ("!has(self.services) || !has(self.services.cas) || self.services.cas.replicas <= 1 || has(self.storageRef)", "several CAS replicas need spec.storageRef: the store inside a grid is the disk of one pod"),
    validation = ("!has(self.actionCache) || !has(self.actionCache.lru) || !has(self.services) || !((has(self.services.server) && self.services.server.replicas > 1) || (has(self.services.actionCache) && self.services.actionCache.replicas > 1))", "an lru action cache is the memory of one pod: use one replica, or leave actionCache.lru out"),
    validation = ("!has(self.tls) || has(self.ingress)", "spec.tls is of the ingress, and there is none: add spec.ingress"),
    validation = ("self.topology != 'split' || self.execution.enabled", "a grid without execution has nothing to split: use topology combined"),
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
    /// The servers: all services in one kind of server, or a server for each of Execution, Bots, CAS, ActionCache.
    #[serde(default)]
    pub topology: Topology,
    /// The store inside the grid, on a volume; used where there is no storageRef.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<EmbeddedStorage>,
    /// A CasStorage of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_ref: Option<LocalRef>,
    /// PostgreSQL for the queue; SQLite on the grid's volume where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSpec>,
    /// Replicas and resources of the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesSpec>,
    /// How actions are queued and run.
    #[serde(default)]
    pub execution: ExecutionSpec,
    /// The cache of results; each server that serves it keeps a million where nothing else is said.
    #[serde(default)]
    pub action_cache: ActionCacheSpec,
    /// The way in from outside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// TLS at the ingress; a certificate that the operator signs where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Version of the server images; the operator's own where it is not given, kept from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub version: Option<String>,
    /// Laid over the server pods' templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// Leave everything as it is, whatever changes.
    #[serde(default)]
    pub paused: bool,
}

impl BuildGridSpec {
    fn default_instances() -> Vec<String> {
        vec![String::new()]
    }
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
}

/// Replicas and resources of each server.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesSpec {
    /// The server of topology combined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServiceSpec>,
    /// Execution, Operations, Capabilities, LogStream, Build Events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ServiceSpec>,
    /// Bots, to which workers connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bots: Option<ServiceSpec>,
    /// ContentAddressableStorage and ByteStream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cas: Option<ServiceSpec>,
    /// ActionCache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_cache: Option<ServiceSpec>,
}

/// One server.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Pods.
    #[serde(default = "ServiceSpec::default_replicas")]
    #[schemars(range(min = 1, max = 64))]
    pub replicas: i32,
    /// Resources of each pod's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

impl ServiceSpec {
    fn default_replicas() -> i32 {
        1
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self { replicas: Self::default_replicas(), resources: None }
    }
}

/// How actions are queued and run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.enabled || !(has(self.matchPropertyKeys) || has(self.wildcardPropertyKeys))", "execution is off: matchPropertyKeys and wildcardPropertyKeys would do nothing")
)]
pub struct ExecutionSpec {
    /// Off, the grid is a remote cache only.
    #[serde(default = "ExecutionSpec::default_enabled")]
    pub enabled: bool,
    /// An action that runs longer than this is ended.
    #[serde(default = "ExecutionSpec::default_max_execution_timeout")]
    pub max_execution_timeout: Span,
    /// Platform properties that decide which worker takes an action, besides `OSFamily` and `ISA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 128)))]
    pub match_property_keys: Option<Vec<String>>,
    /// Platform properties that an action may name and that don't choose its worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 128)))]
    pub wildcard_property_keys: Option<Vec<String>>,
}

impl ExecutionSpec {
    fn default_enabled() -> bool {
        true
    }

    fn default_max_execution_timeout() -> Span {
        "2h".into()
    }
}

impl Default for ExecutionSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            max_execution_timeout: Self::default_max_execution_timeout(),
            match_property_keys: None,
            wildcard_property_keys: None,
        }
    }
}

/// The cache of results.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionCacheSpec {
    /// Keep results in the memory of one server, this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lru: Option<LruActionCache>,
    /// Clients may write to it. The scheduler always may.
    #[serde(default = "ActionCacheSpec::default_true")]
    pub allow_updates: bool,
    /// Keep the results of actions that failed.
    #[serde(default = "ActionCacheSpec::default_true")]
    pub cache_failed_actions: bool,
}

impl ActionCacheSpec {
    fn default_true() -> bool {
        true
    }
}

impl Default for ActionCacheSpec {
    fn default() -> Self {
        Self { lru: None, allow_updates: true, cache_failed_actions: true }
    }
}

/// Results in memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LruActionCache {
    /// Results that are kept.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_entries: i32,
}

/// The way in from outside the cluster: one host, a path for each gRPC service.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// Host name by which clients reach the grid.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub host: String,
    /// IngressClass; the cluster's default class where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Port at which the ingress controller is reached from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Annotations of the Ingress, for its controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The certificate that the ingress shows: exactly one way to get it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.selfSigned), has(self.secretRef), has(self.disabled)].filter(x, x).size() == 1", "tls is exactly one of selfSigned, secretRef, disabled")
)]
pub struct TlsSpec {
    /// A CA and a certificate that the operator makes, and renews in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
    /// A Secret of type kubernetes.io/tls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Plain text from clients to the ingress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Empty>,
}

/// A certificate signed by the grid's own CA.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfSigned {
    /// How long a certificate is good for; it is renewed when a third of that is left.
    #[serde(default = "SelfSigned::default_validity")]
    pub validity: Span,
}

impl SelfSigned {
    fn default_validity() -> Span {
        "90d".into()
    }
}

impl Default for SelfSigned {
    fn default() -> Self {
        Self { validity: Self::default_validity() }
    }
}

/// What the operator saw and did.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildGridStatus {
    /// The generation that this status tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded, DependenciesReady, MigrationSucceeded, ClientsAuthenticated, Paused.
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
}
