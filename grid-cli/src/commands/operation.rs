//! `operation`: what the grid does for its clients.

use clap::Subcommand;
use grid_proto::longrunning::{CancelOperationRequest, GetOperationRequest, ListOperationsRequest};
use grid_proto::reapi::RequestMetadata;
use prost::Message as _;
use tonic::metadata::MetadataMap;

use crate::args::connection::Connection;
use crate::commands::follow::{Follow, Start};
use crate::commands::operations;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::{REQUEST_METADATA, Remote};

const EXAMPLES: &str = "\
Examples:
  What waits or runs:
    grid operation list
  What one build did, oldest first:
    grid operation list --filter 'stage = COMPLETED & tool_name = bazel & sort_order = queued_time'
  One operation, and whose it is:
    grid operation status main/3f0d3a52-8b51-4b43-8a0e-5f0b9a2b4f6a --show-request-metadata
  Follow one to its end; the exit code is 1 if it fails:
    grid operation wait main/3f0d3a52-8b51-4b43-8a0e-5f0b9a2b4f6a
";

/// Look at, follow and cancel operations.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: OperationCommand,
}

#[derive(Debug, Subcommand)]
enum OperationCommand {
    /// Show one operation
    Status {
        /// Name of the operation
        operation_name: String,
        /// Show which tool asked for it, and for what
        #[arg(long)]
        show_request_metadata: bool,
    },
    /// Cancel an operation
    Cancel {
        /// Name of the operation
        operation_name: String,
    },
    /// List operations; those that have not ended, unless a filter says otherwise
    List {
        /// Token of the page to show, from the page before it
        #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
        page_token: String,
        /// Most operations on a page; the server's choice by default
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        page_size: i32,
        /// Which operations, and in what order
        #[arg(
            long,
            visible_alias = "filter-string",
            value_name = "FILTER",
            default_value = "",
            hide_default_value = true
        )]
        filter: String,
        /// Show all pages
        #[arg(long, conflicts_with = "page_token")]
        all: bool,
    },
    /// Follow an operation until it ends
    Wait {
        /// Name of the operation
        operation_name: String,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        let json = self.connection.json;
        match self.command {
            OperationCommand::Status { operation_name, show_request_metadata } => {
                status(&remote, operation_name, show_request_metadata, json, printer).await?;
            }
            OperationCommand::Cancel { operation_name } => cancel(&remote, &operation_name).await?,
            OperationCommand::List { page_token, page_size, filter, all } => {
                let name = remote.instance().to_owned();
                let request =
                    ListOperationsRequest { name, filter, page_size, page_token, ..Default::default() };
                list(&remote, request, all, json, printer).await?;
            }
            OperationCommand::Wait { operation_name } => {
                let name = operations::qualified(&remote, &operation_name);
                let mut follow = Follow::new(&remote, Start::Wait(name));
                while let Some(operation) = follow.next().await? {
                    operations::print(&operation, operation.done, json, printer)?;
                    printer.flush()?;
                }
                operations::outcome(&follow.finish()?)?;
            }
        }
        Ok(Exit::Success)
    }
}

async fn status(
    remote: &Remote,
    name: String,
    show_metadata: bool,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let request = GetOperationRequest { name: operations::qualified(remote, &name) };
    let answer = remote.retry().run(|| {
        let (mut client, request) = (remote.operations(), request.clone());
        async move { client.get_operation(request).await }
    });
    let answer = answer.await.map_err(|status| Failure::rpc(format!("get operation {name}"), status))?;
    let metadata = show_metadata.then(|| request_metadata(answer.metadata())).flatten();
    operations::print(answer.get_ref(), true, json, printer)?;
    match metadata {
        Some(metadata) if json => printer.message(&metadata),
        Some(metadata) => print_metadata(&metadata, printer),
        None => Ok(()),
    }
}

/// Cancels the operation `name`.
pub(crate) async fn cancel(remote: &Remote, name: &str) -> Result<(), Failure> {
    let request = CancelOperationRequest { name: operations::qualified(remote, name) };
    remote
        .call(&format!("cancel operation {name}"), || {
            let (mut client, request) = (remote.operations(), request.clone());
            async move { client.cancel_operation(request).await }
        })
        .await
}

async fn list(
    remote: &Remote,
    mut request: ListOperationsRequest,
    all: bool,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    loop {
        let page = remote
            .call("list operations", || {
                let (mut client, request) = (remote.operations(), request.clone());
                async move { client.list_operations(request).await }
            })
            .await?;
        for operation in &page.operations {
            operations::print(operation, false, json, printer)?;
        }
        request.page_token = page.next_page_token;
        match (request.page_token.as_str(), all) {
            ("", _) => return Ok(()),
            (_, true) => {}
            (token, false) if json => return printer.value(&serde_json::json!({"nextPageToken": token})),
            (token, false) => return printer.line(format_args!("next page: --page-token '{token}'")),
        }
    }
}

/// Servers tell it in the trailer, which tonic merges into the headers of a unary answer.
fn request_metadata(metadata: &MetadataMap) -> Option<RequestMetadata> {
    let bytes = metadata.get_bin(REQUEST_METADATA)?.to_bytes().ok()?;
    RequestMetadata::decode(bytes).ok()
}

fn print_metadata(metadata: &RequestMetadata, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let tool = metadata.tool_details.clone().unwrap_or_default();
    let fields = [
        ("tool", format!("{} {}", tool.tool_name, tool.tool_version)),
        ("action id", metadata.action_id.clone()),
        ("invocation", metadata.tool_invocation_id.clone()),
        ("correlated", metadata.correlated_invocations_id.clone()),
        ("mnemonic", metadata.action_mnemonic.clone()),
        ("target", metadata.target_id.clone()),
        ("configuration", metadata.configuration_id.clone()),
    ];
    for (name, value) in fields.iter().filter(|(_, value)| !value.trim().is_empty()) {
        printer.line(format_args!("  {name:13}  {value}"))?;
    }
    Ok(())
}
