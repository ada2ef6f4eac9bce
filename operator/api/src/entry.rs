//! The way into a BuildGrid: Ingress or Gateway, and the certificate that is shown there.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{Empty, LocalRef, Span};

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
    /// Lead workers elsewhere to Bots, by the grid's worker token: pools of other clusters, by their `gridRef.address`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bots: bool,
    /// Services and methods that other servers answer under the same host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub routes: Vec<ExtraRoute>,
    /// Annotations of the Ingress, for its controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The certificate that the ingress shows: exactly one way to get it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.selfSigned), has(self.secretRef), has(self.certManager), has(self.disabled)].filter(x, x).size() == 1", "tls is exactly one of selfSigned, secretRef, certManager, disabled")
)]
pub struct TlsSpec {
    /// A CA and a certificate that the operator makes, and renews in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
    /// A Secret of type kubernetes.io/tls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// A Certificate of cert-manager, which makes and renews it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
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

/// A certificate that cert-manager makes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    /// The issuer.
    pub issuer_ref: IssuerRef,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct IssuerRef {
    /// Name of the issuer.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Whether it is of the namespace or of the cluster.
    #[serde(default)]
    pub kind: IssuerKind,
}

/// Kinds of issuers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum IssuerKind {
    /// Of the namespace.
    #[default]
    Issuer,
    /// Of the cluster.
    ClusterIssuer,
}

impl IssuerKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::ClusterIssuer => "ClusterIssuer",
        }
    }
}

/// The way in by the Gateway API: a GRPCRoute with a rule for each gRPC service. The certificate is the Gateway's.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.bots) || !self.bots || self.tls", "the worker token would cross the network in plain text: bots needs a listener with TLS")
)]
pub struct GatewaySpec {
    /// Host name by which clients reach the grid.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub host: String,
    /// The Gateways that serve it.
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Vec<ParentRef>,
    /// Port of the Gateway's listener.
    #[serde(default = "GatewaySpec::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The listener speaks TLS.
    #[serde(default = "GatewaySpec::default_tls")]
    pub tls: bool,
    /// Lead workers elsewhere to Bots, by the grid's worker token: pools of other clusters, by their `gridRef.address`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bots: bool,
    /// Services and methods that other servers answer under the same host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub routes: Vec<ExtraRoute>,
}

/// A way to another server, before those of the grid's own services.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.service.startsWith('grid.fleet.') && !self.service.endsWith('.Bots')", "Fleet is never reached from outside, and Bots by the field bots alone: the grid's own asks for its worker token")
)]
pub struct ExtraRoute {
    /// Full name of a gRPC service, such as `google.devtools.build.v1.PublishBuildEvent`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")
    )]
    pub service: String,
    /// One of its methods; all of them where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub method: Option<String>,
    /// Who answers.
    pub backend: RouteBackend,
}

/// A Service of the grid's namespace.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct RouteBackend {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// One of its ports.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl GatewaySpec {
    fn default_port() -> i32 {
        443
    }

    fn default_tls() -> bool {
        true
    }
}

/// A Gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// One of its listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}
