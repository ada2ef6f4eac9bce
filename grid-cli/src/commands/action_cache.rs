//! `action-cache`: cached results of actions.

use clap::Subcommand;
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;

use crate::args::connection::Connection;
use crate::commands::results;
use crate::digests;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::{Remote, choose_function};
use crate::transfer::Cas;

const EXAMPLES: &str = "\
Examples:
  Show what is cached for an action (exit code 66: nothing):
    grid action-cache get 8d1c...4e/142
  Make a result that is in the CAS the action's cached one:
    grid action-cache update 8d1c...4e/142 03bf...a9/88
";

/// Read and write cached action results.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show the cached result of an action
    Get {
        /// Digest of the action, as HASH/SIZE
        action_digest: String,
    },
    /// Cache a result, which is in the CAS as an ActionResult message
    Update {
        /// Digest of the action, as HASH/SIZE
        action_digest: String,
        /// Digest of the result, as HASH/SIZE
        action_result_digest: String,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        let result = match &self.command {
            CacheCommand::Get { action_digest } => {
                let offered =
                    remote.capabilities().await?.cache_capabilities.unwrap_or_default().digest_functions;
                let function = choose_function(self.connection.digest_function, &offered)?;
                get(&remote, &digests::from_argument(function, action_digest)?).await?
            }
            CacheCommand::Update { action_digest, action_result_digest } => {
                let cas = Cas::new(remote.clone(), self.connection.digest_function).await?;
                let argument = |text| digests::from_argument(cas.function(), text);
                let (action, result) = (argument(action_digest)?, argument(action_result_digest)?);
                let result = cas.read_message(&result).await?;
                update(&remote, &action, result, cas.function()).await?
            }
        };
        if self.connection.json {
            printer.message(&result)?;
        } else {
            results::print(&result, printer)?;
        }
        Ok(Exit::Success)
    }
}

async fn get(remote: &Remote, action: &Digest) -> Result<reapi::ActionResult, Failure> {
    let request = reapi::GetActionResultRequest {
        instance_name: remote.instance().to_owned(),
        action_digest: Some(digests::to_wire(action)),
        digest_function: action.function().to_wire(),
        ..Default::default()
    };
    let answer = remote
        .call(&format!("get the result of action {action}"), || {
            let (mut client, request) = (remote.action_cache(), request.clone());
            async move { client.get_action_result(request).await }
        })
        .await;
    answer.map_err(|failure| match failure {
        absent if absent.is_not_found() => {
            Failure::NotFound(format!("no result is cached for action {action}"))
        }
        other => other,
    })
}

async fn update(
    remote: &Remote,
    action: &Digest,
    result: reapi::ActionResult,
    function: DigestFunction,
) -> Result<reapi::ActionResult, Failure> {
    let request = reapi::UpdateActionResultRequest {
        instance_name: remote.instance().to_owned(),
        action_digest: Some(digests::to_wire(action)),
        action_result: Some(result),
        digest_function: function.to_wire(),
        results_cache_policy: None,
    };
    remote
        .call(&format!("update the result of action {action}"), || {
            let (mut client, request) = (remote.action_cache(), request.clone());
            async move { client.update_action_result(request).await }
        })
        .await
}
