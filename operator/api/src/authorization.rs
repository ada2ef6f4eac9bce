//! How a BuildGrid knows its callers, and what they may do.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{ConfigMapKeyRef, Empty, SecretKeyRef};

/// How callers from outside are known: exactly one way. Workers always show the grid's own token.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.jwt) != has(self.trustedHeaders)", "authorization is exactly one of jwt and trustedHeaders")
)]
pub struct AuthorizationSpec {
    /// By signed bearer tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// By the headers `x-request-actor`, `x-request-subject` and `x-request-workflow`, which a proxy in front of the
    /// grid sets and takes away from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_headers: Option<Empty>,
    /// Who may call what where, as BuildGrid's ACL file says it. Without it every known caller may call everything
    /// but record results beside the scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acl_from: Option<ConfigMapKeyRef>,
    /// Instances that everybody may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub open_instances: Vec<String>,
}

/// Signed bearer tokens.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.keySecretRef) != has(self.keySetUrls)", "jwt needs exactly one of keySecretRef, a key, and keySetUrls, where keys are published"),
    validation = ("!has(self.keySetUrls) || has(self.audiences)", "with keySetUrls others get tokens of the same keys too: say in audiences which are for this grid")
)]
pub struct JwtSpec {
    /// The secret or public key that signatures are checked with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyRef>,
    /// URLs of JSON Web Key Sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 1, max = 512), regex(pattern = r"^https?://.+$"))
    )]
    pub key_set_urls: Option<Vec<String>>,
    /// Algorithm of the signatures.
    #[serde(default)]
    pub algorithm: JwtAlgorithm,
    /// Audiences that a token may be for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    pub audiences: Option<Vec<String>>,
}

/// An algorithm of signatures, as RFC 7518 names them, in lower case.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    #[default]
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl JwtAlgorithm {
    /// The word in the server's configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "hs256",
            Self::Hs384 => "hs384",
            Self::Hs512 => "hs512",
            Self::Rs256 => "rs256",
            Self::Rs384 => "rs384",
            Self::Rs512 => "rs512",
            Self::Es256 => "es256",
            Self::Es384 => "es384",
            Self::Es512 => "es512",
            Self::Ps256 => "ps256",
            Self::Ps384 => "ps384",
            Self::Ps512 => "ps512",
        }
    }
}
