//! BuildGrid's command line, as far as it is about servers: in our image `bgd` is a link to `grid-server`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{Bounds, Check, Cleanup, Command, Logs, Migrate, Serve, seconds};

#[derive(Debug, Parser)]
#[command(name = "bgd", version, about = "BuildGrid's server commands, served by grid-server")]
struct Bgd {
    #[command(subcommand)]
    group: Group,
}

#[derive(Debug, Subcommand)]
enum Group {
    /// Serve a configuration, or look for its errors
    #[command(subcommand)]
    Server(Server),
    /// Keep storages within their watermarks
    #[command(subcommand)]
    Cleanup(Start),
    /// Remove what no index knows
    #[command(subcommand)]
    Janitor(Janitor),
    /// Bring a database to this version's schema
    #[command(subcommand)]
    Migrate(Apply),
}

#[derive(Debug, Subcommand)]
enum Server {
    /// Serve
    Start {
        /// The configuration; $XDG_CONFIG_HOME/buildgrid/server.yml where none is named
        config: Option<PathBuf>,
        /// Serve without TLS where a channel says nothing and has no key pair
        #[arg(long)]
        allow_insecure: bool,
        /// Write the process's id to this file
        #[arg(long)]
        pid_file: Option<PathBuf>,
        #[command(flatten)]
        logs: Logs,
        /// How long calls may go on after SIGTERM, in seconds
        #[arg(long, default_value = "25", value_parser = seconds)]
        grace: std::time::Duration,
    },
    /// Say everything that is wrong with a configuration
    Lint {
        /// The configuration; $XDG_CONFIG_HOME/buildgrid/server.yml where none is named
        config: Option<PathBuf>,
        // Taken because BuildGrid takes them: what a lint says is its answer, and no log.
        #[command(flatten)]
        _logs: Logs,
    },
}

#[derive(Debug, Subcommand)]
enum Start {
    /// Clean
    Start {
        /// The configuration; $XDG_CONFIG_HOME/buildgrid/server.yml where none is named
        config: Option<PathBuf>,
        /// Delete nothing; say what would be deleted
        #[arg(long)]
        dry_run: bool,
        /// How long to wait between two passes, in seconds
        #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
        sleep_interval: std::time::Duration,
        #[command(flatten)]
        bounds: Bounds,
        #[command(flatten)]
        logs: Logs,
    },
}

#[derive(Debug, Subcommand)]
enum Janitor {
    /// Clean
    Start {
        /// The configuration
        config: PathBuf,
        #[command(flatten)]
        _logs: Logs,
    },
}

#[derive(Debug, Subcommand)]
enum Apply {
    /// Migrate
    Apply {
        /// The database: postgresql://… or sqlite:///PATH
        connection_string: String,
    },
}

pub(super) fn parse(arguments: Vec<OsString>) -> Result<Command, clap::Error> {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    Ok(match Bgd::try_parse_from(arguments)?.group {
        Group::Server(Server::Start { config, allow_insecure, pid_file, logs, grace }) => {
            Command::Serve(Serve { config, allow_insecure, pid_file, grace, logs, ..Serve::default() })
        }
        Group::Server(Server::Lint { config, .. }) => Command::Check(Check { config, strict: true }),
        Group::Cleanup(Start::Start { config, dry_run, sleep_interval, bounds, logs }) => {
            Command::Cleanup(Cleanup { config, dry_run, sleep_interval, bounds, logs, ..Cleanup::default() })
        }
        Group::Janitor(Janitor::Start { config, .. }) => {
            let message = format!(
                "janitor: {} is a configuration of BuildGrid's janitor; run `grid-server janitor CONFIG` with the \
                 configuration of the server, which names the storages and their indexes",
                config.display()
            );
            return Err(Bgd::command().error(ErrorKind::InvalidSubcommand, message));
        }
        Group::Migrate(Apply::Apply { connection_string }) => {
            Command::Migrate(Migrate { database: Some(connection_string), ..Migrate::default() })
        }
    })
}
