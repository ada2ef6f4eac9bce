//! What clients told of their requests, looked up by value: which values a field has, and what became of the operations
//! that have one.
//!
//! Neighbour: [`crate::filter`] finds the operations themselves.

use grid_core::Timestamp;

#[cfg(feature = "simulation")]
use crate::job::{Job, Stage};
#[cfg(feature = "simulation")]
use crate::operation::Operation;
use crate::operation::RequestMetadata;

/// A field that values are looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of REAPI's RequestMetadata")]
pub enum MetadataField {
    InvocationId,
    CorrelatedInvocationsId,
    ToolName,
    ToolVersion,
    ActionMnemonic,
    TargetId,
    ConfigurationId,
}

/// The fields by the names that BuildGrid has for them.
pub const METADATA_FIELDS: [(&str, MetadataField); 7] = [
    ("tool_invocation_id", MetadataField::InvocationId),
    ("correlated_invocations_id", MetadataField::CorrelatedInvocationsId),
    ("tool_name", MetadataField::ToolName),
    ("tool_version", MetadataField::ToolVersion),
    ("action_mnemonic", MetadataField::ActionMnemonic),
    ("target_id", MetadataField::TargetId),
    ("configuration_id", MetadataField::ConfigurationId),
];

impl MetadataField {
    /// The field in what was told of a request.
    #[must_use]
    pub fn of(self, metadata: &RequestMetadata) -> &str {
        match self {
            Self::InvocationId => &metadata.invocation_id,
            Self::CorrelatedInvocationsId => &metadata.correlated_invocations_id,
            Self::ToolName => &metadata.tool_name,
            Self::ToolVersion => &metadata.tool_version,
            Self::ActionMnemonic => &metadata.action_mnemonic,
            Self::TargetId => &metadata.target_id,
            Self::ConfigurationId => &metadata.configuration_id,
        }
    }
}

/// A page of the values that an instance's operations have in a field, each once and in order. No value is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuesQuery {
    /// The instance.
    pub instance: String,
    /// The field.
    pub field: MetadataField,
    /// Only values with this in them, in small letters or large ones; empty for all.
    pub part: String,
    /// So many values are left out first.
    pub skip: u64,
    /// At most so many.
    pub limit: u32,
}

/// What a [`ValuesQuery`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// How many there are on all pages.
    pub total: u64,
    /// Those of the page.
    pub values: Vec<String>,
}

/// Which operations are looked at together: an instance's with a value in a field. An empty value finds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryQuery {
    /// The instance.
    pub instance: String,
    /// The field.
    pub field: MetadataField,
    /// Its value, as a whole.
    pub value: String,
    /// How much different metadata is told at most.
    pub limit: u32,
}

/// Operations together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What was told of them: each once, without the action's identifier.
    pub metadata: Vec<RequestMetadata>,
    /// Operations whose jobs wait.
    pub queued: u64,
    /// Operations whose jobs run.
    pub executing: u64,
    /// Operations whose jobs are over.
    pub completed: u64,
    /// When the first of the jobs was accepted.
    pub first_queued: Option<Timestamp>,
    /// When the last of those that are over ended.
    pub last_completed: Option<Timestamp>,
}

#[cfg(feature = "simulation")]
impl Summary {
    /// Counts one more operation; its metadata is the caller's to tell.
    pub(crate) fn count(&mut self, job: &Job) {
        match job.state.stage {
            Stage::Queued => self.queued += 1,
            Stage::Executing => self.executing += 1,
            Stage::Completed => self.completed += 1,
        }
        let queued = job.state.queued_at;
        self.first_queued = Some(self.first_queued.map_or(queued, |first| first.min(queued)));
        self.last_completed = self.last_completed.max(job.state.completed_at);
    }
}

/// What is told of an operation beside others of its kind.
#[cfg(feature = "simulation")]
pub(crate) fn without_action(operation: &Operation) -> RequestMetadata {
    RequestMetadata { action_id: String::new(), ..operation.metadata.clone() }
}
