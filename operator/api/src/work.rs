//! What grid-worker does besides running one action after the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::Span;

/// Processes that stay and do the work of many actions, for those with the property persistentWorkerKey.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentWorkers {
    /// The most of them in one pod. Each takes memory also while it has nothing to do.
    #[schemars(range(min = 1, max = 256))]
    pub max: i32,
    /// How long one without work is kept.
    #[serde(default = "PersistentWorkers::default_idle")]
    pub idle: Span,
}

impl PersistentWorkers {
    fn default_idle() -> Span {
        "5m".into()
    }
}

/// An address at which a cloud tells a machine that it is about to be taken away.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreemptionNotice {
    /// Asked every five seconds: an answer of 200 but an empty one, `FALSE` and `NONE` means that the machine goes, and the
    /// worker leaves in good order.
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^http://[^/]+/.*$"))]
    pub url: String,
    /// A header that goes with it, as `NAME: VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 512), regex(pattern = r"^[A-Za-z0-9-]+: ?.+$"))]
    pub header: Option<String>,
}
