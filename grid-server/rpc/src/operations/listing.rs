//! `ListOperations`: the filter's text, pages, and the tokens that lead from one page to the next.
//!
//! A token holds the sort keys of the page's last row, so it works on every replica and never skips or repeats
//! an operation that stays where it is. It is of use for the list that it was given for, and refused for any other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grid_core::{Digest, DigestFunction};
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
        let order: Vec<Field> = filter.order.iter().map(|key| key.field).chain([Field::Name]).collect();
        read_token(&request.page_token, &list_name(instance, &request.filter))
            .filter(|keys| keys.len() == order.len() && order.iter().zip(keys).all(|(f, v)| suits(*f, v)))
            .ok_or_else(|| {
                RpcError::field("page_token", "was not given by this server for this filter and order")
            })?
    };
    Ok(ListQuery { instance: instance.to_owned(), filter, after, limit })
}

/// The token of the page that follows; empty where none does.
pub(super) fn next_page_token(
    request: &ListOperationsRequest,
    query: &ListQuery,
    page: &[(Operation, Job)],
) -> String {
    let full = page.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
    match page.last().filter(|_| full) {
        Some((operation, job)) => {
            let fields = query.filter.order.iter().map(|key| key.field).chain([Field::Name]);
            let keys: Vec<Value> = fields.map(|field| value(field, operation, job)).collect();
            token(&list_name(&query.instance, &request.filter), &keys)
        }
        None => String::new(),
    }
}

/// What tells a list from others: its instance, its filter and its order, which is in the filter's text.
fn list_name(instance: &str, filter: &str) -> String {
    let mut hash =
        Digest::of(DigestFunction::Sha256, format!("{instance}\n{}", filter.trim()).as_bytes()).hash_hex();
    hash.truncate(16);
    hash
}

/// Whether a value is of the kind that a column has.
fn suits(field: Field, value: &Value) -> bool {
    match (field, value) {
        (Field::Name, Value::Text(text)) => text.parse::<uuid::Uuid>().is_ok(),
        (Field::Stage | Field::QueuedTime | Field::StartTime | Field::CompletedTime, value) => {
            matches!(value, Value::Number(_))
        }
        (_, value) => matches!(value, Value::Text(_)),
    }
}

fn token(list: &str, keys: &[Value]) -> String {
    let lines: Vec<String> = [list.to_owned()].into_iter().chain(keys.iter().map(write)).collect();
    URL_SAFE_NO_PAD.encode(lines.join("\n"))
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

fn read_token(token: &str, list: &str) -> Option<Vec<Value>> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let keys = text.strip_prefix(list)?.strip_prefix('\n')?;
    let read = |key: &str| match key.split_at_checked(1)? {
        ("n", number) => number.parse().ok().map(Value::Number),
        ("t", text) => String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok().map(Value::Text),
        _ => None,
    };
    keys.split('\n').map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_TIME: &str = "sort_order = queued_time";
    const BY_TOOL: &str = "sort_order = tool_name";

    fn asking(instance: &str, filter: &str, page_token: String) -> Result<ListQuery, RpcError> {
        query(
            instance,
            100,
            &ListOperationsRequest { filter: filter.into(), page_token, ..Default::default() },
        )
    }

    fn last() -> [Value; 2] {
        [Value::Number(7), Value::Text(uuid::Uuid::nil().to_string())]
    }

    #[test]
    fn a_token_leads_on_in_its_own_list_alone() {
        let given = || token(&list_name("main", BY_TIME), &last());
        assert_eq!(asking("main", &format!(" {BY_TIME}"), given()).unwrap().after, last());
        for (instance, filter) in [
            ("main", BY_TOOL),
            ("main", "sort_order = queued_time(desc)"),
            ("main", "stage = QUEUED & sort_order = queued_time"),
            ("other", BY_TIME),
        ] {
            let error = asking(instance, filter, given()).unwrap_err();
            assert!(error.to_string().starts_with("page_token"), "{instance} {filter}: {error}");
        }
    }

    #[test]
    fn a_token_that_nobody_gave_is_refused() {
        let text = |text: &str| Value::Text(text.into());
        let name = || text(&uuid::Uuid::nil().to_string());
        for (filter, keys) in [
            (BY_TIME, vec![text("soon"), name()]),
            (BY_TOOL, vec![Value::Number(1), name()]),
            (BY_TIME, vec![Value::Number(1), text("no uuid")]),
            (BY_TIME, vec![Value::Number(1)]),
        ] {
            let error = asking("main", filter, token(&list_name("main", filter), &keys)).unwrap_err();
            assert!(error.to_string().starts_with("page_token"), "{filter} {keys:?}: {error}");
        }
        for garbage in ["!", "AAAA", "_w"] {
            assert!(asking("main", BY_TIME, garbage.into()).is_err(), "{garbage}");
        }
    }
}
