//! Every service of the Remote Execution API and the Remote Workers API.
//!
//! The command line (`cli`) names a command (`commands`). `serve` reads the configuration (`settings`), makes of it what it
//! says (`compose`), binds its addresses (`listen`), and goes on until it is asked to end. The work is done by the library
//! crates beneath this one; here it is only put together.

mod admin;
mod answers;
mod cleaning;
mod cli;
mod commands;
mod compose;
mod elsewhere;
mod hand_over;
mod limits;
mod listen;
mod monitoring;
mod paths;
mod readiness;
mod settings;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use cli::Command;
use grid_telemetry::logs::{self, LogFormat};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Blobs come and go: zeroing two mebibytes for each first touch was half of the processor time of a write. Where the
    // kernel doesn't know the request, all works as well.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // Libraries beneath us bring another provider along, so that rustls can't choose by itself. It is set only once.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(code) = client() {
        return code;
    }
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "grid-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Called by the name `bgd`, a client command of BuildGrid's goes to the client.
fn client() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    (Path::new(&name).file_stem()? == "bgd").then(|| grid_cli::bgd(std::env::args_os())).flatten()
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(arguments) => commands::check::run(&arguments, &mut io::stdout().lock()),
        Command::Serve(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::serve::run(arguments))
        }
        Command::Migrate(arguments) => {
            runtime()?.block_on(commands::migrate::run(&arguments, &mut io::stdout()))
        }
        Command::Cleanup(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::cleanup::run(&arguments, &mut io::stdout()))
        }
        Command::Fsck(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::fsck::run(&arguments, &mut io::stdout()))
        }
        Command::Pin(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::pins::pin(&arguments, &mut io::stdout()))
        }
        Command::Unpin(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::pins::unpin(&arguments, &mut io::stdout()))
        }
        Command::Pins(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::pins::list(&arguments, &mut io::stdout()))
        }
        Command::Purge(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::purge::run(&arguments, &mut io::stdout()))
        }
        Command::Janitor(arguments) => {
            start_logs(arguments.logs)?;
            runtime()?.block_on(commands::janitor::run(&arguments, &mut io::stdout()))
        }
    }
}

fn start_logs(arguments: cli::Logs) -> anyhow::Result<()> {
    let format = if arguments.json_logs { LogFormat::Json } else { LogFormat::Text };
    Ok(logs::init(format, arguments.verbose)?)
}

/// After how many tasks a worker looks whether something came from outside. Of the runtime's own 61, each a turn of a busy connection, a
/// quiet one would notice.
const LOOKS: u32 = 8;

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(LOOKS)
        .global_queue_interval(LOOKS)
        .build()
}
