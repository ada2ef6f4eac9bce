//! Mutual TLS between parts: a grid's servers, its workers and the operator; a tier's servers and those of grids.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::LocalRef;
use crate::entry::{CertManager, SelfSigned};

/// Where the certificates come from: exactly one way. Servers and workers take renewed ones up without a restart.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.selfSigned), has(self.secretRefs), has(self.certManager)].filter(x, x).size() == 1", "mutualTls is exactly one of selfSigned, secretRefs, certManager")
)]
pub struct MutualTlsSpec {
    /// A CA and certificates that the operator makes, and renews in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
    /// Two Secrets with the keys `tls.crt`, `tls.key` and `ca.crt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_refs: Option<MutualTlsSecrets>,
    /// Certificates of cert-manager, by an issuer that tells its CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
}

/// The Secrets of mutual TLS.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MutualTlsSecrets {
    /// What servers show, to their callers and where they call each other: for the names of their Services, as server and
    /// as client.
    pub server: LocalRef,
    /// What is shown by those who only call: the workers of a grid, or the grids of a tier.
    pub client: LocalRef,
}
