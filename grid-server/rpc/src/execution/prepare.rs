//! From an `ExecuteRequest` to a job: the cached result, or an action whose inputs are all there.

use std::time::Duration;

use bytes::Bytes;
use grid_core::{Coded, Digest, ErrorCode, Violation};
use grid_proto::reapi::{Action, Command, ExecuteRequest, ExecuteResponse, Platform};
use grid_proto::{buildgrid, reapi};
use grid_scheduler::operation::{ClientIdentity, RequestMetadata};
use grid_scheduler::service::ExecuteRequest as Job;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::instance::ExecutionInstance;
use crate::auth::Identity;
use crate::digests::Reader;
use crate::{RpcError, metadata, to_status};

/// Larger actions and commands than this are no such thing, in bytes.
const MAX_MESSAGE: u64 = 32 << 20;
/// How much of a command line is kept for people, in characters.
const COMMAND_TEXT: usize = 1_000;

/// The job that a request asks for.
pub(super) async fn prepare(
    name: &str,
    instance: &ExecutionInstance,
    headers: &MetadataMap,
    request: &ExecuteRequest,
) -> Result<Job, Status> {
    let refuse = |error: RpcError| to_status(&error);
    let reader = Reader::new(request.digest_function, &instance.functions).map_err(refuse)?;
    let action_digest = reader.required("action_digest", request.action_digest.as_ref()).map_err(refuse)?;
    let encoded = fetch(instance, &action_digest, "action").await?;
    let action = decode::<Action>(&encoded, "action").map_err(refuse)?;
    let timeout = timeout(instance, &action).map_err(refuse)?;
    let cached = if request.skip_cache_lookup || action.do_not_cache {
        None
    } else {
        lookup(instance, &action_digest).await?
    };
    let command =
        if cached.is_some() { Command::default() } else { inputs(instance, &reader, &action).await? };
    allowed(instance, &command, cached.is_some()).map_err(refuse)?;
    let platform = platform(&action, &command);
    let requirement = instance.scheduler.requirement(name, &platform).await;
    let requirement = requirement.map_err(|error| to_status(&error))?;
    let client = client(headers);
    let priority = priority(name, instance, &client, request, cached.is_some()).await.map_err(refuse)?;
    let hint: Option<buildgrid::SchedulingMetadata> =
        metadata::decode(headers, "build.buildgrid.schedulingmetadata-bin");
    Ok(Job {
        instance: name.to_owned(),
        action_digest,
        action: encoded,
        command: command.arguments.join(" ").chars().take(COMMAND_TEXT).collect(),
        platform,
        requirement,
        priority,
        cacheable: !action.do_not_cache,
        timeout,
        locality: hint.map(|hint| hint.locality_hint).unwrap_or_default(),
        client,
        metadata: tool(headers),
        cached,
    })
}

/// What is asked for; less for those who used more than they may, unless nothing is to be run.
async fn priority(
    name: &str,
    instance: &ExecutionInstance,
    client: &ClientIdentity,
    request: &ExecuteRequest,
    is_cached: bool,
) -> Result<i32, RpcError> {
    let asked = request.execution_policy.as_ref().map_or(0, |policy| policy.priority);
    match &instance.metering {
        Some(metered) if !is_cached => metered.admit(name, client, asked).await,
        _ => Ok(asked),
    }
}

async fn fetch(instance: &ExecutionInstance, digest: &Digest, what: &str) -> Result<Bytes, Status> {
    if digest.size() > MAX_MESSAGE {
        let problem = format!("a {what} of {} bytes is larger than {MAX_MESSAGE} bytes", digest.size());
        return Err(to_status(&RpcError::field("action_digest", problem)));
    }
    let found = instance.storage.read_batch(std::slice::from_ref(digest)).await.pop();
    match found {
        Some(Ok(content)) => Ok(content),
        Some(Err(error)) if error.code() == ErrorCode::NotFound => Err(missing(error.violations())),
        Some(Err(error)) => Err(to_status(&error)),
        None => Err(to_status(&RpcError::Internal("the storage gave no answer for a blob".into()))),
    }
}

fn missing(violations: Vec<Violation>) -> Status {
    let message = "the action, its command or its inputs are not in the storage".to_owned();
    to_status(&RpcError::Missing { message, violations })
}

fn decode<M: Message + Default>(encoded: &Bytes, what: &str) -> Result<M, RpcError> {
    M::decode(encoded.clone())
        .map_err(|error| RpcError::field("action_digest", format!("the blob is no {what}: {error}")))
}

fn timeout(instance: &ExecutionInstance, action: &Action) -> Result<Option<Duration>, RpcError> {
    let Some(wire) = action.timeout else { return Ok(None) };
    let max = instance.scheduler.options().max_execution_timeout;
    let timeout = Duration::try_from(wire)
        .map_err(|_| RpcError::field("action.timeout", "is negative or not a duration"))?;
    if timeout > max {
        let problem =
            format!("{} s is more than the server's limit of {} s", timeout.as_secs(), max.as_secs());
        return Err(RpcError::field("action.timeout", problem));
    }
    Ok((!timeout.is_zero()).then_some(timeout))
}

/// The encoded response for a result that the action cache has.
async fn lookup(instance: &ExecutionInstance, digest: &Digest) -> Result<Option<Bytes>, Status> {
    let Some(cache) = &instance.action_cache else { return Ok(None) };
    let result = cache.get(digest).await.map_err(|error| to_status(&error))?;
    let response = result.map(|result| ExecuteResponse {
        result: Some(result),
        cached_result: true,
        status: Some(grid_proto::rpc::Status::default()),
        ..ExecuteResponse::default()
    });
    Ok(response.map(|response| response.encode_to_vec().into()))
}

/// The command, once it and the root of the inputs are known to be there. Whether the whole tree is there is left
/// to the worker, which has to read it anyway.
async fn inputs(
    instance: &ExecutionInstance,
    reader: &Reader<'_>,
    action: &Action,
) -> Result<Command, Status> {
    let refuse = |error: RpcError| to_status(&error);
    let command = reader.required("action.command_digest", action.command_digest.as_ref()).map_err(refuse)?;
    let root =
        reader.required("action.input_root_digest", action.input_root_digest.as_ref()).map_err(refuse)?;
    let wanted = [command, root];
    let absent = instance.storage.find_missing(&wanted).await.map_err(|error| to_status(&error))?;
    if !absent.is_empty() {
        return Err(missing(absent.iter().map(grid_cas::error::missing).collect()));
    }
    let encoded = fetch(instance, &command, "command").await?;
    decode::<Command>(&encoded, "command").map_err(refuse)
}

fn allowed(instance: &ExecutionInstance, command: &Command, cached: bool) -> Result<(), RpcError> {
    let list = &instance.command_allowlist;
    let program = command.arguments.first().map_or("", String::as_str);
    if cached || list.is_empty() || list.iter().any(|allowed| allowed == program) {
        return Ok(());
    }
    Err(RpcError::Precondition(format!(
        "program {program:?} is not on this instance's command-allowlist ({})",
        list.join(", ")
    )))
}

/// REAPI: the action's platform; the command's, where an older client put it there.
fn platform(action: &Action, command: &Command) -> Vec<(String, String)> {
    #[allow(deprecated, reason = "clients before REAPI 2.2 send it")]
    let platform: Option<&Platform> = action.platform.as_ref().or(command.platform.as_ref());
    let properties = platform.map(|p| p.properties.as_slice()).unwrap_or_default();
    properties.iter().map(|p| (p.name.clone(), p.value.clone())).collect()
}

/// Who asks: the caller that authentication knows, else who the client says that it is.
fn client(headers: &MetadataMap) -> ClientIdentity {
    if let Some(known) = crate::auth::caller() {
        let Identity { subject, actor, workflow } = (*known).clone();
        return ClientIdentity { workflow, actor, subject };
    }
    let clean = |text: String| text.replace('\0', "");
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    match metadata::decode::<buildgrid::ClientIdentity>(headers, metadata::CLIENT_IDENTITY) {
        Some(id) => ClientIdentity {
            workflow: clean(id.workflow),
            actor: clean(id.actor),
            subject: clean(id.subject),
        },
        None => ClientIdentity {
            workflow: text("x-request-workflow"),
            actor: text("x-request-actor"),
            subject: text("x-request-subject"),
        },
    }
}

fn tool(headers: &MetadataMap) -> RequestMetadata {
    let sent: reapi::RequestMetadata = metadata::request_metadata(headers).unwrap_or_default();
    let details = sent.tool_details.unwrap_or_default();
    let clean = |text: String| text.replace('\0', "");
    RequestMetadata {
        tool_name: clean(details.tool_name),
        tool_version: clean(details.tool_version),
        action_id: clean(sent.action_id),
        invocation_id: clean(sent.tool_invocation_id),
        correlated_invocations_id: clean(sent.correlated_invocations_id),
        action_mnemonic: clean(sent.action_mnemonic),
        target_id: clean(sent.target_id),
        configuration_id: clean(sent.configuration_id),
    }
}
