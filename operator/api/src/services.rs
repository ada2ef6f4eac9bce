//! The servers of a BuildGrid, how it runs actions, and what it fetches. Where results are kept is in `action_cache`.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::Span;

/// Replicas and resources of each server.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesSpec {
    /// The server of topology combined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServiceSpec>,
    /// Execution, Operations, Introspection, Quota, Capabilities, LogStream, Build Events.
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
    /// An action that asks for what none of the grid's pools can ever offer fails after this, with the reason;
    /// a minute where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse_unplaceable_after: Option<Span>,
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
            refuse_unplaceable_after: None,
            match_property_keys: None,
            wildcard_property_keys: None,
        }
    }
}

/// The Remote Asset service: contents by their URIs, for Bazel's downloader and BuildStream's artifacts.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.fetch || !has(self.fetchHosts)", "nothing is fetched: fetchHosts would do nothing")
)]
pub struct RemoteAssetSpec {
    /// Clients may push.
    #[serde(default = "RemoteAssetSpec::default_true")]
    pub allow_updates: bool,
    /// The servers fetch http and https URIs that nobody pushed; never from addresses that are not public.
    #[serde(default = "RemoteAssetSpec::default_true")]
    pub fetch: bool,
    /// The hosts that may be fetched from, `*.example.org` for a domain; any where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub fetch_hosts: Option<Vec<String>>,
}

impl RemoteAssetSpec {
    fn default_true() -> bool {
        true
    }
}

impl Default for RemoteAssetSpec {
    fn default() -> Self {
        Self { allow_updates: true, fetch: true, fetch_hosts: None }
    }
}
