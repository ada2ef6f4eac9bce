//! `execute`: commands that run on the grid.

mod action;
mod outputs;

use std::path::PathBuf;

use clap::Subcommand;
use futures::future::try_join_all;
use grid_core::Digest;
use grid_proto::reapi;
use grid_proto::reapi::ExecuteRequest;

use crate::args::connection::Connection;
use crate::commands::cas::dummy_action;
use crate::commands::follow::{Follow, Start};
use crate::commands::{interruptible, operation, operations};
use crate::digests;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::{Identity, Remote, choose_function};
use crate::transfer::{Cas, Uploads};

const EXAMPLES: &str = "\
Examples:
  Compile one file; the directory's content is the input, hello.o comes to ./testing:
    grid execute command ./src --output-file hello.o -- gcc -c hello.c -o hello.o
  Ask for a platform, and take the result from the cache if it is there:
    grid execute command ./src -c -p OSFamily linux -p ISA x86-64 --output-directory out -- make
  The CAS is another server:
    grid execute --remote https://grid:50051 --remote-cas https://cas:50051 command . -- true
";

/// Run commands on the grid.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    cas: CasConnection,
    #[command(subcommand)]
    command: ExecuteCommand,
}

/// The CAS, where it is not at `--remote`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "CAS connection")]
struct CasConnection {
    /// Server of the CAS; --remote by default
    #[arg(long, global = true, value_name = "URL")]
    remote_cas: Option<String>,
    /// Private key for mTLS with the CAS, PEM
    #[arg(long, global = true, value_name = "FILE")]
    cas_client_key: Option<PathBuf>,
    /// Certificate for mTLS with the CAS, PEM
    #[arg(long, global = true, value_name = "FILE")]
    cas_client_cert: Option<PathBuf>,
    /// Certificates to trust the CAS by, PEM
    #[arg(long, global = true, value_name = "FILE")]
    cas_server_cert: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ExecuteCommand {
    /// Ask for the execution of the action that `cas upload-dummy` uploads
    RequestDummy {
        /// How many requests to send
        #[arg(long, value_name = "N", default_value_t = 1)]
        number: u32,
        /// Follow each to its end
        #[arg(long)]
        wait_for_completion: bool,
    },
    /// Upload a directory, run a command in it, and fetch its outputs; exits with the command's exit code
    Command(action::CommandArgs),
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        match &self.command {
            ExecuteCommand::RequestDummy { number, wait_for_completion } => {
                request_dummy(&self.connection, &remote, *number, *wait_for_completion, printer).await
            }
            ExecuteCommand::Command(command) => self.run_command(&remote, command, printer).await,
        }
    }

    async fn run_command(
        &self,
        remote: &Remote,
        command: &action::CommandArgs,
        printer: &mut Printer<'_>,
    ) -> Result<Exit, Failure> {
        let (json, progress) = (self.connection.json, self.connection.progress);
        let uploaded = interruptible(async {
            let cas =
                Cas::new(self.cas.connect(&self.connection, remote).await?, self.connection.digest_function);
            let cas = cas.await?;
            let action = command.upload(&cas, progress).await?;
            Ok((cas, action))
        });
        let (cas, action) = uploaded.await?;
        let request = command.request(remote, &action);
        let response = follow(remote, request, !command.disable_cancellation, json, printer).await?;
        let result = response.result.unwrap_or_default();
        let outputs = outputs::Outputs { cas: &cas, result: &result, to: &command.output_directory };
        interruptible(outputs.fetch(progress)).await?;
        if !json {
            interruptible(outputs.print_streams(printer)).await?;
        }
        Ok(Exit::of_command(result.exit_code))
    }
}

impl CasConnection {
    async fn connect(&self, connection: &Connection, execution: &Remote) -> Result<Remote, Failure> {
        let Some(remote) = &self.remote_cas else { return Ok(execution.clone()) };
        let given = Identity {
            trusted: self.cas_server_cert.clone(),
            certificate: self.cas_client_cert.clone(),
            key: self.cas_client_key.clone(),
        };
        Remote::connect_to(connection, remote, given.or_default()).await
    }
}

/// The request to execute `action`.
fn execute_request(remote: &Remote, action: &Digest) -> ExecuteRequest {
    ExecuteRequest {
        instance_name: remote.instance().to_owned(),
        action_digest: Some(digests::to_wire(action)),
        digest_function: action.function().to_wire(),
        skip_cache_lookup: true,
        ..Default::default()
    }
}

async fn request_dummy(
    connection: &Connection,
    remote: &Remote,
    number: u32,
    wait: bool,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let capabilities = remote.capabilities().await?.execution_capabilities.unwrap_or_default();
    let function = choose_function(connection.digest_function, &capabilities.digest_functions)?;
    let (_, action) = dummy_action(&mut Uploads::new(), function);
    let start = Start::Execute(execute_request(remote, &action));
    let mut follows: Vec<_> = (0..number).map(|_| Follow::new(remote, start.clone())).collect();
    let mut first = try_join_all(follows.iter_mut().map(Follow::next)).await?;
    for update in first.drain(..).flatten() {
        operations::print(&update, false, connection.json, printer)?;
    }
    if !wait {
        return Ok(Exit::Success);
    }
    for mut follow in follows {
        while let Some(update) = follow.next().await? {
            operations::print(&update, false, connection.json, printer)?;
        }
        operations::outcome(&follow.finish()?)?;
    }
    Ok(Exit::Success)
}

/// Executes `request` to its end. An interrupt cancels the operation, if `cancel`.
async fn follow(
    remote: &Remote,
    request: ExecuteRequest,
    cancel: bool,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<reapi::ExecuteResponse, Failure> {
    let mut follow = Follow::new(remote, Start::Execute(request));
    loop {
        let update = tokio::select! {
            update = follow.next() => update?,
            Ok(()) = tokio::signal::ctrl_c() => return Err(interrupted(remote, follow.name(), cancel).await),
        };
        let Some(update) = update else { break };
        if json {
            printer.message(&update)?;
        }
    }
    operations::outcome(&follow.finish()?)
}

async fn interrupted(remote: &Remote, name: Option<&str>, cancel: bool) -> Failure {
    let Some(name) = name else { return Failure::Interrupted(" before the operation had a name".to_owned()) };
    if !cancel {
        return Failure::Interrupted(format!("; operation {name} goes on"));
    }
    match operation::cancel(remote, name).await {
        Ok(()) => Failure::Interrupted(format!("; operation {name} is cancelled")),
        Err(failure) => Failure::Interrupted(format!("; {failure}")),
    }
}
