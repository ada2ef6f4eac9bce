//! Operations of the Execution service: names, printing, and what their end means.

use grid_proto::longrunning::{Operation, operation};
use grid_proto::reapi::execution_stage::Value as Stage;
use grid_proto::reapi::{ExecuteOperationMetadata, ExecuteResponse};
use grid_proto::{any, rpc};
use tonic::Code;

use crate::commands::results;
use crate::digests;
use crate::exit::{Failure, code_name};
use crate::printer::Printer;
use crate::remote::Remote;

/// The full name of an operation that may be given by its bare id.
pub(crate) fn qualified(remote: &Remote, name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { remote.qualified(name) }
}

/// Prints `operation`, on one line or with `details`.
pub(crate) fn print(
    operation: &Operation,
    details: bool,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    if json {
        return printer.message(operation);
    }
    let metadata = metadata(operation)?;
    let stage = stage_name(metadata.stage);
    printer.line(format_args!("{}  {stage:11}  {}", operation.name, state(operation)?))?;
    if !details {
        return Ok(());
    }
    printer.line(format_args!("  action   {}", digests::text(metadata.action_digest.as_ref())))?;
    for (name, stream) in [("stdout", &metadata.stdout_stream_name), ("stderr", &metadata.stderr_stream_name)]
    {
        if !stream.is_empty() {
            printer.line(format_args!("  {name}   logstream read {stream}"))?;
        }
    }
    let response = response(operation)?.unwrap_or_default();
    if !response.message.is_empty() {
        printer.line(format_args!("  message  {}", response.message))?;
    }
    response.result.map_or(Ok(()), |result| results::print(&result, printer))
}

/// What an operation has come to, in a few words.
fn state(operation: &Operation) -> Result<String, Failure> {
    if !operation.done {
        return Ok("in progress".to_owned());
    }
    if let Some(status) = failure(operation)? {
        return Ok(text(&status));
    }
    let response = response(operation)?.unwrap_or_default();
    let cached = if response.cached_result { ", from the cache" } else { "" };
    let code = response.result.map_or(0, |result| result.exit_code);
    Ok(format!("done, exit code {code}{cached}"))
}

/// The operation's result.
///
/// # Errors
/// [`Failure::Operation`] when it ended without one.
pub(crate) fn outcome(operation: &Operation) -> Result<ExecuteResponse, Failure> {
    if let Some(status) = failure(operation)? {
        return Err(Failure::Operation(format!("operation {} failed: {}", operation.name, text(&status))));
    }
    response(operation)?
        .ok_or_else(|| Failure::Protocol(format!("operation {} is done without a result", operation.name)))
}

/// Why the operation has no usable result: its own error, or the status inside its response.
fn failure(operation: &Operation) -> Result<Option<rpc::Status>, Failure> {
    if let Some(operation::Result::Error(status)) = &operation.result {
        return Ok(Some(status.clone()));
    }
    let status = response(operation)?.and_then(|response| response.status);
    Ok(status.filter(|status| status.code != 0))
}

fn response(operation: &Operation) -> Result<Option<ExecuteResponse>, Failure> {
    let Some(operation::Result::Response(packed)) = &operation.result else { return Ok(None) };
    any::unpack(packed).map(Some).map_err(|error| protocol(operation, &error))
}

/// The operation's metadata; empty for an operation that has none yet.
pub(crate) fn metadata(operation: &Operation) -> Result<ExecuteOperationMetadata, Failure> {
    let Some(packed) = &operation.metadata else { return Ok(ExecuteOperationMetadata::default()) };
    any::unpack(packed).map_err(|error| protocol(operation, &error))
}

fn protocol(operation: &Operation, error: &any::UnpackError) -> Failure {
    Failure::Protocol(format!("operation {}: {error}", operation.name))
}

/// The stage as the specification writes it.
pub(crate) fn stage_name(stage: i32) -> String {
    Stage::try_from(stage).map_or_else(|_| format!("#{stage}"), |known| known.as_str_name().to_owned())
}

fn text(status: &rpc::Status) -> String {
    let code = code_name(Code::from_i32(status.code));
    if status.message.is_empty() { code.to_owned() } else { format!("{code}: {}", status.message) }
}

#[cfg(test)]
mod tests {
    use grid_proto::reapi::ActionResult;

    use super::*;

    fn done(result: operation::Result) -> Operation {
        Operation { name: "main/1".to_owned(), done: true, result: Some(result), ..Default::default() }
    }

    fn responding(response: &ExecuteResponse) -> Operation {
        done(operation::Result::Response(any::pack(response)))
    }

    #[test]
    fn both_places_of_a_failure_count() {
        let status = rpc::Status { code: 4, message: "too long".to_owned(), ..Default::default() };
        let inside = responding(&ExecuteResponse { status: Some(status.clone()), ..Default::default() });
        for operation in [inside, done(operation::Result::Error(status))] {
            let failure = outcome(&operation).unwrap_err();
            assert_eq!(failure.to_string(), "operation main/1 failed: DEADLINE_EXCEEDED: too long");
        }
    }

    #[test]
    fn a_failing_command_is_still_an_outcome() {
        let result = ActionResult { exit_code: 7, ..Default::default() };
        let operation = responding(&ExecuteResponse { result: Some(result), ..Default::default() });
        assert_eq!(outcome(&operation).unwrap().result.unwrap().exit_code, 7);
        assert_eq!(state(&operation).unwrap(), "done, exit code 7");
    }

    #[test]
    fn an_end_without_result_breaks_the_protocol() {
        let operation = Operation { done: true, ..Default::default() };
        assert!(matches!(outcome(&operation), Err(Failure::Protocol(_))));
    }
}
