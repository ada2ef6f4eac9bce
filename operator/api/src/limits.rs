//! What one action of a pool may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::ByteSize;

/// What one action may use; where nothing is said, what the pod may. An action that goes beyond fails, and says why.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionLimits {
    /// Memory of its processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processes alive at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub processes: Option<i32>,
    /// The largest file that it writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<ByteSize>,
    /// All files that it makes, on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// Its standard output and its standard error, each; 256Mi where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<ByteSize>,
}
