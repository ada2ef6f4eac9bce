//! `ListOperations`: the filter's text, pages, and the tokens that lead from one page to the next.
//!
//! A token holds the sort keys of the page's last row, so it works on every replica and never skips or repeats
//! an operation that stays where it is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grid_proto::longrunning::ListOperationsRequest;
use grid_scheduler::filter::{self, Field, ListQuery, Value};
use grid_scheduler::job::Job;
use grid_scheduler::operation::Operation;

use crate::RpcError;

/// The page that a request asks for.
pub(super) fn query(
    instance: &str,
    max_page_size: u32,
    request: &ListOperationsRequest,
) -> Result<ListQuery, RpcError> {
    let filter =
        filter::parse(&request.filter).map_err(|error| RpcError::field("filter", error.to_string()))?;
    let limit = match u32::try_from(request.page_size) {
        Ok(0) => max_page_size,
        Ok(size) if size <= max_page_size => size,
        Ok(_) => return Err(RpcError::field("page_size", format!("is more than {max_page_size}"))),
        Err(_) => return Err(RpcError::field("page_size", "is negative")),
    };
    let after = if request.page_token.is_empty() {
        Vec::new()
    } else {
        read_token(&request.page_token)
            .filter(|keys| keys.len() == filter.order.len() + 1)
            .ok_or_else(|| RpcError::field("page_token", "was not given by this server for this filter"))?
    };
    Ok(ListQuery { instance: instance.to_owned(), filter, after, limit })
}

/// The token of the page that follows; empty where none does.
pub(super) fn next_page_token(query: &ListQuery, page: &[(Operation, Job)]) -> String {
    let full = page.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
    match page.last().filter(|_| full) {
        Some((operation, job)) => {
            let fields = query.filter.order.iter().map(|key| key.field).chain([Field::Name]);
            let keys: Vec<String> = fields.map(|field| write(&value(field, operation, job))).collect();
            URL_SAFE_NO_PAD.encode(keys.join("\n"))
        }
        None => String::new(),
    }
}

fn value(field: Field, operation: &Operation, job: &Job) -> Value {
    let time = |at: Option<grid_core::Timestamp>| Value::Number(at.map_or(0, |at| at.0));
    let text = |text: &str| Value::Text(text.to_owned());
    let (tool, client) = (&operation.metadata, &operation.client);
    match field {
        Field::Name | Field::Platform => text(&operation.id.to_string()),
        Field::Stage => Value::Number(job.state.stage.number().into()),
        Field::Command => text(&job.spec.command),
        Field::ActionDigest => text(&job.spec.action_digest.to_string()),
        Field::InvocationId => text(&tool.invocation_id),
        Field::CorrelatedInvocationsId => text(&tool.correlated_invocations_id),
        Field::ToolName => text(&tool.tool_name),
        Field::ToolVersion => text(&tool.tool_version),
        Field::ActionMnemonic => text(&tool.action_mnemonic),
        Field::TargetId => text(&tool.target_id),
        Field::ConfigurationId => text(&tool.configuration_id),
        Field::QueuedTime => time(Some(job.state.queued_at)),
        Field::StartTime => time(job.state.started_at),
        Field::CompletedTime => time(job.state.completed_at),
        Field::ClientWorkflow => text(&client.workflow),
        Field::ClientActor => text(&client.actor),
        Field::ClientSubject => text(&client.subject),
    }
}

fn write(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("n{number}"),
        Value::Text(text) => format!("t{}", URL_SAFE_NO_PAD.encode(text)),
        Value::Property { key, value } => format!("t{}", URL_SAFE_NO_PAD.encode(format!("{key}:{value}"))),
    }
}

fn read_token(token: &str) -> Option<Vec<Value>> {
    let keys = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let read = |key: &str| match key.split_at_checked(1)? {
        ("n", number) => number.parse().ok().map(Value::Number),
        ("t", text) => String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok().map(Value::Text),
        _ => None,
    };
    keys.split('\n').map(read).collect()
}
