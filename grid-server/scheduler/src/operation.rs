//! [`Operation`]: one client's handle on a job, with who asked and why.

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, OperationId};

/// Who asked (BuildGrid's `ClientIdentity`); empty where authentication is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientIdentity {
    /// The workflow.
    pub workflow: String,
    /// The one who acts.
    pub actor: String,
    /// The one in whose name.
    pub subject: String,
}

/// With which tool and for which target (REAPI, `RequestMetadata`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of REAPI's RequestMetadata")]
pub struct RequestMetadata {
    pub tool_name: String,
    pub tool_version: String,
    pub action_id: String,
    pub invocation_id: String,
    pub correlated_invocations_id: String,
    pub action_mnemonic: String,
    pub target_id: String,
    pub configuration_id: String,
}

/// One client's handle on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name, without the instance.
    pub id: OperationId,
    /// The job it waits for.
    pub job: JobId,
    /// The instance that it was asked of.
    pub instance: String,
    /// Whether its client gave up.
    pub cancelled: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Who asked.
    pub client: ClientIdentity,
    /// With which tool.
    pub metadata: RequestMetadata,
}
