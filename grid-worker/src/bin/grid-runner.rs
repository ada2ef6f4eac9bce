//! `grid-runner`: runs commands that grid-worker has staged, in any image.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use grid_worker::runner::isolation::Isolation;
use grid_worker::runner::serve::ServeOptions;
use grid_worker::runner::{enclose, install, serve, supervise};

/// Runs commands for grid-worker; holds no credentials and needs nothing of the image that it runs in.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Buildbarn's runner protocol on a UNIX socket.
    Serve(ServeOptions),
    /// Copy this binary to DIR/grid-runner, for a container of another image.
    Install {
        /// The directory to copy to, made where it is missing.
        dir: PathBuf,
        /// The worker's directory of commands, made for the user that runs this and nobody else to write in. Where the
        /// runner's mount of it made it, any command could.
        #[arg(long, env = "GRID_RUNNER_BUILD_DIR", value_name = "DIR")]
        build_dir: Option<PathBuf>,
    },
    /// Run one command; only `serve` calls this.
    #[command(hide = true)]
    Supervise,
    /// Enter an enclosure in an empty directory; only `serve` calls this.
    #[command(hide = true)]
    Attempt {
        #[arg(long, value_enum)]
        isolation: Isolation,
        #[arg(long)]
        uid: u32,
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    grid_worker::logs::start();
    let result = match command {
        Command::Serve(options) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(serve::serve(options))),
        Command::Install { dir, build_dir } => install::install(&dir, build_dir.as_deref()),
        Command::Supervise => supervise::run(),
        Command::Attempt { isolation, uid, directory } => {
            // What it says becomes part of what `serve` says.
            enclose::attempt(&directory, isolation, uid).or_else(|error| {
                writeln!(std::io::stderr(), "{error:#}")?;
                std::process::exit(1)
            })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
