//! The command line: its groups, the options that all of them share, and their environment variables.
//!
//! Options of a single group live with its command in [`crate::commands`]. Nothing here touches files or
//! the network.

pub(crate) mod connection;
mod environment;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    action_cache, capabilities, cas, completions, execute, fleet, logstream, operation, quota, why,
};
use crate::exit::EXIT_CODES;

const LONG_ABOUT: &str = "\
Store and fetch blobs, run commands, follow operations and logs, and ask a grid what it does.

Talks to any server of the Remote Execution API; `why`, `fleet` and `quota` need a grid. Every option can \
be set in the environment: BUILDGRID_REMOTE for all groups, BUILDGRID_CAS_REMOTE for `cas` alone, which \
goes before; several values of one option are apart by spaces. With --json each result is one JSON document on a line of its own.";

const EXAMPLES: &str = "\
Examples:
  grid capabilities --remote https://grid.example.org
  grid cas upload-dir ./src
  grid execute command . --output-file hello.o -- gcc -c hello.c -o hello.o
  grid operation list --filter 'stage = EXECUTING'
  grid why main/3f0d3a52-8b51-4b43-8a0e-5f0b9a2b4f6a
";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "grid", version, about = "Client of a build grid", long_about = LONG_ABOUT)]
#[command(after_help = "Use --help for examples and exit codes.")]
#[command(after_long_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A command group with its options.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Upload and download blobs and directories
    Cas(cas::Args),
    /// Read and write cached action results
    ActionCache(action_cache::Args),
    /// Run commands on the grid
    Execute(execute::Args),
    /// Look at, follow and cancel operations
    Operation(operation::Args),
    /// Create, read and write log streams
    Logstream(logstream::Args),
    /// Show what a server offers
    Capabilities(capabilities::Args),
    /// Read and set the quotas of instances
    Quota(quota::Args),
    /// Say why an operation has not finished
    Why(why::Args),
    /// Look at pools, bots and jobs; drain bots
    Fleet(fleet::Args),
    /// Print a script that completes this command line in a shell
    Completions(completions::Args),
}

/// The command that `args`, the program's name first, ask for.
///
/// # Errors
/// What the parser says: a mistake, or the help or version that was asked for.
pub(crate) fn parse<I, T>(args: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let mut command = environment::bind(Cli::command(), &|name| std::env::var_os(name).is_some());
    let mut matches = command.try_get_matches_from_mut(&args)?;
    if let Some(filled) = environment::fill(command.clone(), &matches, &|name| std::env::var(name).ok())? {
        command = filled;
        matches = command.try_get_matches_from_mut(args)?;
    }
    Ok(Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?.command)
}

/// Whether `name` is a command group.
pub(crate) fn is_command(name: &str) -> bool {
    Cli::command().find_subcommand(name).is_some()
}

/// The command line's own description, for completion scripts.
pub(crate) fn description() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_consistent() {
        environment::bind(Cli::command(), &|_| false).debug_assert();
    }

    #[test]
    fn client_groups_are_known_and_server_groups_are_not() {
        for group in ["cas", "action-cache", "execute", "operation", "logstream", "capabilities", "quota"] {
            assert!(is_command(group), "{group}");
        }
        for group in ["server", "cleanup", "janitor", "migrate", "help", "--help", ""] {
            assert!(!is_command(group), "{group}");
        }
    }
}
