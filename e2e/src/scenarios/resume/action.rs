//! An action that is waited for on another replica than the one that took it.

use anyhow::{Context, Result, ensure};
use grid_proto::any::unpack;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operation::Result as Outcome;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::execution_stage::Value as Stage;
use grid_proto::reapi::{ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse, WaitExecutionRequest};
use tonic::{Status, Streaming};

use super::Replicas;
use crate::actions;
use crate::remote::{Remote, digest, was_cut};

/// Longer than it takes to see that it runs and to kill a replica.
const SCRIPT: &str = "sleep 20; echo done";

/// Has an action run, kills the replica that told of it, and waits for its end.
///
/// # Errors
/// Where the action ends otherwise, or runs again.
pub(super) fn waited_for(remote: &Remote, replicas: &Replicas<'_>) -> Result<()> {
    let request = ExecuteRequest {
        action_digest: Some(actions::store(remote, "gcc12", SCRIPT)?),
        ..Default::default()
    };
    let (mut told, name) = remote.retried("Execute", async || {
        let mut client = ExecutionClient::new(remote.channel.clone());
        let mut told = client.execute(request.clone()).await?.into_inner();
        let first = told.message().await?.ok_or_else(|| Status::unavailable("Execute said nothing"))?;
        Ok((told, first.name))
    })?;
    remote.runtime.block_on(running(&mut told))?;
    replicas.kill_busy("execution", "Execute")?;
    let cut = remote.runtime.block_on(async {
        loop {
            match told.message().await {
                Ok(Some(operation)) if !operation.done => {}
                other => return other,
            }
        }
    });
    match cut {
        Ok(answer) => anyhow::bail!("the call ended without its server: {answer:?}"),
        Err(status) => ensure!(was_cut(&status), "the call was refused: {status}"),
    }
    let response = remote.retried("WaitExecution", async || {
        let request = WaitExecutionRequest { name: name.clone() };
        let mut told =
            ExecutionClient::new(remote.channel.clone()).wait_execution(request).await?.into_inner();
        while let Some(operation) = told.message().await? {
            if let Some(Outcome::Response(response)) = operation.result {
                return Ok(response);
            }
        }
        Err(Status::unavailable("WaitExecution ended before the action"))
    })?;
    let response: ExecuteResponse = unpack(&response)?;
    let result = response.result.context("the action has no result")?;
    ensure!(result.exit_code == 0, "the action ended with {}", result.exit_code);
    let printed = result.stdout_digest == Some(digest(b"done\n")) || result.stdout_raw == b"done\n"[..];
    ensure!(printed, "the action printed something else: {result:?}");
    println!("    action: {name} was waited for on another replica");
    replicas.wait_for_both("execution")
}

/// Waits until a worker runs the action.
async fn running(told: &mut Streaming<Operation>) -> Result<()> {
    while let Some(operation) = told.message().await? {
        ensure!(!operation.done, "the action ended before its replica was killed: {operation:?}");
        let metadata = operation.metadata.context("an operation without metadata")?;
        if unpack::<ExecuteOperationMetadata>(&metadata)?.stage() == Stage::Executing {
            return Ok(());
        }
    }
    anyhow::bail!("Execute ended before the action ran")
}
