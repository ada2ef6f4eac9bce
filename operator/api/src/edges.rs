//! What stands before a grid's services: traces of calls, rates of callers, pages in browsers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where OpenTelemetry traces are sent.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TracingSpec {
    /// The collector's URL for OTLP over HTTP, without a path: `http://HOST:4318`. NetworkPolicies of your own must let the
    /// servers reach it.
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/]+/?$"))]
    pub endpoint: String,
    /// How many of a hundred calls are traced whose clients say nothing of traces; what a client says holds.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub sample_percent: i32,
}

/// How many calls a second callers may make: whoever is faster waits, then is refused. Workers are not bounded.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct RatesSpec {
    /// Of one subject, as authentication tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_subject: Option<i32>,
    /// Over one connection. Behind the ingress that is one of its own, which many clients share.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_connection: Option<i32>,
}

/// Pages in browsers that may call.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcWebSpec {
    /// Their origins, as `https://HOST[:PORT]`; `*` for any.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(max = 255), regex(pattern = r"^(\*|https?://[^/]+)$"))
    )]
    pub origins: Vec<String>,
}
