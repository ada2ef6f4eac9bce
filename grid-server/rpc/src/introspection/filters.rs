//! What `ListOperations` can be filtered by, as forms and dashboards want it.

use grid_proto::buildgrid::{OperationFilter, OperationFilters};
use grid_scheduler::filter::{FIELDS, Field, STAGES};

const EVERY: &[&str] = &["<", "<=", "=", "!=", ">=", ">"];

/// Every parameter; the order of what is found comes last.
pub(super) fn all() -> OperationFilters {
    let order = OperationFilter {
        key: "sort_order".to_owned(),
        name: "Sort Order".to_owned(),
        r#type: "text".to_owned(),
        description: "A parameter to sort by, followed by (asc) or (desc) where it matters.".to_owned(),
        comparators: vec!["=".to_owned()],
        values: Vec::new(),
    };
    let parameters = FIELDS.iter().map(|(key, field)| parameter(key, *field));
    OperationFilters { filters: parameters.chain([order]).collect() }
}

fn parameter(key: &str, field: Field) -> OperationFilter {
    let (name, description) = meaning(field);
    let kind = match field {
        Field::QueuedTime | Field::StartTime | Field::CompletedTime => "datetime",
        _ => "text",
    };
    let comparators = if field == Field::Platform { &["=", "!="][..] } else { EVERY };
    let values =
        if field == Field::Stage { STAGES.map(|(name, _)| name.to_owned()).to_vec() } else { Vec::new() };
    OperationFilter {
        key: key.to_owned(),
        name: name.to_owned(),
        r#type: kind.to_owned(),
        description: description.to_owned(),
        comparators: comparators.iter().map(|comparator| (*comparator).to_owned()).collect(),
        values,
    }
}

/// The parameter's name and what it says of an operation.
const fn meaning(field: Field) -> (&'static str, &'static str) {
    match field {
        Field::Name => ("Name", "The operation's name without its instance."),
        Field::Stage => ("Stage", "How far it is."),
        Field::Command => ("Command", "The command line."),
        Field::Platform => ("Platform", "A platform property that it asks for, as KEY:VALUE."),
        Field::ActionDigest => ("Action Digest", "The action's digest, as HASH/SIZE."),
        Field::InvocationId => ("Invocation ID", "The run of the tool that asked for it."),
        Field::CorrelatedInvocationsId => {
            ("Correlated Invocations ID", "The set of runs that it belongs to, such as a CI pipeline.")
        }
        Field::ToolName => ("Tool Name", "The tool that asked for it."),
        Field::ToolVersion => ("Tool Version", "The version of that tool."),
        Field::ActionMnemonic => ("Action Mnemonic", "The kind of action, as the tool calls it."),
        Field::TargetId => ("Target ID", "The target that the action is for."),
        Field::ConfigurationId => ("Configuration ID", "The configuration that the target is built in."),
        Field::QueuedTime => ("Queued Time", "When the action was accepted."),
        Field::StartTime => ("Start Time", "When a worker began with it."),
        Field::CompletedTime => ("Completed Time", "When it ended."),
        Field::ClientWorkflow => ("Client Workflow", "The workflow of the client that asked for it."),
        Field::ClientActor => ("Client Actor", "Who asked for it."),
        Field::ClientSubject => ("Client Subject", "In whose name it was asked for."),
    }
}
