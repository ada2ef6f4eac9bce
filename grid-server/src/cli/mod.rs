//! The command line.

mod amounts;
mod bgd;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use amounts::Moment;
use clap::{ArgGroup, Args, Parser, Subcommand};
use grid_core::Digest;

const ABOUT: &str = "Every service of the Remote Execution API and the Remote Workers API";
const EXAMPLES: &str = "\
Examples:
  grid-server serve                     a whole grid on 127.0.0.1:50051, nothing else needed
  grid-server check server.yml          everything that is wrong with a configuration, in one go
  grid-server serve server.yml          what the configuration says
  grid-server migrate --database postgresql://grid@db/grid
  grid-server migrate --import-buildgrid server.yml
  grid-server purge server.yml --worker pool-a-3 --since 12H
                                        has run again what a bad worker ran
  grid-server pin server.yml DIGEST --tree --for 30D
                                        keep a directory, and all that is in it, from cleanup
  grid-server fsck server.yml           whether indexes and storages agree, after a restore

Called by the name bgd it takes BuildGrid's commands: server start, server lint, cleanup start,
migrate apply.

Without CONFIG, $XDG_CONFIG_HOME/buildgrid/server.yml (~/.config/buildgrid/server.yml) is read where it is there;
else the built-in configuration holds: one unnamed instance with 2 GiB of memory for blobs, the queue in an SQLite
file under $XDG_STATE_HOME/buildgrid (~/.local/state/buildgrid).";

/// What the process is asked to do.
#[derive(Debug, Parser, PartialEq)]
#[command(name = "grid-server", version, about = ABOUT, after_long_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One command.
#[derive(Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Serve what a configuration says, until SIGTERM
    Serve(Serve),
    /// Say everything that is wrong with a configuration
    Check(Check),
    /// Bring a database to this version's schema
    Migrate(Migrate),
    /// Keep storages within their watermarks
    Cleanup(Cleanup),
    /// Bring indexes and their storages into agreement
    Fsck(Fsck),
    /// Delete what storages hold and no index knows
    Janitor(Janitor),
    /// Keep blobs from cleanup for some time, used or not
    Pin(Pin),
    /// End pins: cleanup goes by the blobs' uses again
    Unpin(Unpin),
    /// List what is pinned, and until when
    Pins(Pins),
    /// Take back the results that a worker executed, so that their actions run again
    Purge(Purge),
}

/// How the log is written.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Logs {
    /// Log more of what the server does; saying it again, as BuildGrid's callers do, changes nothing
    #[arg(short, long, overrides_with = "verbose")]
    pub(crate) verbose: bool,
    /// Log one JSON object a line
    #[arg(long, env = "GRID_SERVER_JSON_LOGS")]
    pub(crate) json_logs: bool,
}

/// `serve`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Serve {
    /// The configuration
    pub(crate) config: Option<PathBuf>,
    /// Serve without TLS where a channel says nothing and has no key pair
    #[arg(long)]
    pub(crate) allow_insecure: bool,
    /// Serve /metrics, /healthz and /readyz here instead of where the configuration says
    #[arg(long, value_name = "HOST:PORT", env = "GRID_SERVER_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// How long calls may go on after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds, env = "GRID_SERVER_GRACE")]
    pub(crate) grace: Duration,
    /// Write the process's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// `check`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Check {
    /// The configuration
    pub(crate) config: Option<PathBuf>,
    /// Take deprecated spellings for errors
    #[arg(long)]
    pub(crate) strict: bool,
}

/// `migrate`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(group(ArgGroup::new("buildgrid").multiple(true)))]
pub(crate) struct Migrate {
    /// The configuration whose databases and storages are taken over from BuildGrid
    #[arg(requires = "buildgrid")]
    pub(crate) config: Option<PathBuf>,
    /// The database: postgresql://… or sqlite:///PATH
    #[arg(
        long,
        value_name = "URL",
        env = "GRID_SERVER_DATABASE",
        hide_env_values = true,
        conflicts_with = "database_file"
    )]
    pub(crate) database: Option<String>,
    /// A file with the database's URL
    #[arg(long, value_name = "PATH")]
    pub(crate) database_file: Option<PathBuf>,
    /// Change nothing; succeed where the schema is this version's
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) check: bool,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take over what BuildGrid's indexes and SQL storages in CONFIG's databases hold; its own tables stay as they are
    #[arg(long, group = "buildgrid", conflicts_with_all = ["database", "database_file", "check"])]
    pub(crate) import_buildgrid: bool,
    /// BuildGrid no longer uses CONFIG's storages: cleanup and janitor may delete from them
    #[arg(long, group = "buildgrid", conflicts_with_all = ["database", "database_file", "check", "dry_run"])]
    pub(crate) finish_import: bool,
}

/// `cleanup`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Cleanup {
    /// The configuration, with a `cleanup` section
    pub(crate) config: Option<PathBuf>,
    /// Delete nothing; say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Look once, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// How long to wait between two passes, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub(crate) sleep_interval: Duration,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Clean while BuildGrid uses the storages too, and take what is deleted out of its index
    #[arg(long)]
    pub(crate) shared: bool,
    /// Serve /metrics and /healthz here
    #[arg(long, value_name = "HOST:PORT", env = "GRID_SERVER_ADMIN", conflicts_with_all = ["once", "dry_run"])]
    pub(crate) admin: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// Bounds for every `cleanup` of the configuration, in place of its own.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    /// Clean from this many bytes on (500G)
    #[arg(long, value_name = "SIZE", value_parser = amounts::size)]
    pub(crate) high_watermark: Option<u64>,
    /// Clean down to this many bytes
    #[arg(long, value_name = "SIZE", value_parser = amounts::size)]
    pub(crate) low_watermark: Option<u64>,
    /// Delete this many bytes at a time
    #[arg(long, value_name = "SIZE", value_parser = amounts::size)]
    pub(crate) batch_size: Option<u64>,
    /// Keep blobs that were used within this time (12H)
    #[arg(long, value_name = "TIME", value_parser = amounts::period)]
    pub(crate) only_if_unused_for: Option<Duration>,
}

/// `fsck`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Fsck {
    /// The configuration that the server has
    pub(crate) config: Option<PathBuf>,
    /// Make misses of lost blobs, and have the index know those that it does not
    #[arg(long)]
    pub(crate) repair: bool,
    /// Change nothing; say what is wrong, which is also what happens without --repair
    #[arg(long, conflicts_with = "repair")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// `janitor`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Janitor {
    /// The configuration that the server has; nobody else may keep blobs in its storages
    pub(crate) config: Option<PathBuf>,
    /// Leave alone what was written within this time (1D)
    #[arg(long, value_name = "TIME", default_value = "1D", value_parser = amounts::period)]
    pub(crate) min_age: Duration,
    /// Delete nothing; say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Look while BuildGrid uses the storages too, and leave what its index knows
    #[arg(long)]
    pub(crate) shared: bool,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// `pin`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct Pin {
    /// The configuration that the server has
    #[arg(required = true)]
    pub(crate) config: Option<PathBuf>,
    /// The blobs, as HASH/SIZE; blake3:HASH/SIZE for one of another function than SHA-256 with hashes as long
    #[arg(required = true, value_name = "DIGEST", value_parser = amounts::digest)]
    pub(crate) digests: Vec<Digest>,
    /// How long, from now on (30D); a blob that is pinned for longer stays so
    #[arg(long = "for", value_name = "TIME", value_parser = amounts::period)]
    pub(crate) period: Duration,
    /// Each DIGEST is that of a Directory message: pin all that is in it, too
    #[arg(long)]
    pub(crate) tree: bool,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// `unpin`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct Unpin {
    /// The configuration that the server has
    #[arg(required = true)]
    pub(crate) config: Option<PathBuf>,
    /// The blobs, as `pin` takes them
    #[arg(required = true, value_name = "DIGEST", value_parser = amounts::digest)]
    pub(crate) digests: Vec<Digest>,
    /// Each DIGEST is that of a Directory message: end the pins of all that is in it, too
    #[arg(long)]
    pub(crate) tree: bool,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// `pins`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Pins {
    /// The configuration that the server has
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// `purge`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct Purge {
    /// The configuration that the server has
    pub(crate) config: Option<PathBuf>,
    /// The worker, by its bot's name
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: String,
    /// From when on: 2026-07-30T14:30:00Z, or how long ago (12H)
    #[arg(long, value_name = "TIME", value_parser = amounts::moment)]
    pub(crate) since: Moment,
    /// Until when; until now where nothing is said
    #[arg(long, value_name = "TIME", value_parser = amounts::moment)]
    pub(crate) until: Option<Moment>,
    /// Take nothing back; say how much would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads the process's arguments, in BuildGrid's form where it is called `bgd`.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let called = arguments.first().map(PathBuf::from);
    let by_name = called.as_deref().and_then(|path| path.file_name()).is_some_and(|name| name == "bgd");
    if by_name { bgd::parse(arguments) } else { Cli::try_parse_from(arguments).map(|cli| cli.command) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Command {
        parse(line.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn the_command_lines_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn buildgrids_commands_become_ours() {
        let config = || Some(PathBuf::from("/etc/buildgrid/default.yml"));
        let Command::Serve(serve) = parsed("/usr/bin/bgd server start -v /etc/buildgrid/default.yml") else {
            unreachable!()
        };
        assert_eq!((serve.config, serve.logs.verbose), (config(), true));
        assert_eq!(serve.grace, Duration::from_secs(25));
        assert_eq!(
            parsed("bgd server lint /etc/buildgrid/default.yml"),
            Command::Check(Check { config: config(), strict: true })
        );
        assert_eq!(
            parsed("bgd cleanup start --dry-run /etc/buildgrid/default.yml"),
            Command::Cleanup(Cleanup {
                config: config(),
                dry_run: true,
                sleep_interval: Duration::from_secs(20),
                ..Cleanup::default()
            })
        );
        assert_eq!(
            parsed("bgd migrate apply sqlite:///x.db"),
            Command::Migrate(Migrate { database: Some("sqlite:///x.db".to_owned()), ..Migrate::default() })
        );
    }

    #[test]
    fn every_option_of_buildgrids_servers_is_taken() {
        let Command::Serve(serve) =
            parsed("bgd server start -vv --json-logs --allow-insecure --pid-file p c.yml")
        else {
            unreachable!()
        };
        assert_eq!(serve.logs, Logs { verbose: true, json_logs: true });
        assert!(serve.allow_insecure);
        assert_eq!((serve.config, serve.pid_file), (Some("c.yml".into()), Some("p".into())));
        let linted = Command::Check(Check { config: Some("c.yml".into()), strict: true });
        assert_eq!(parsed("bgd server lint -v --json-logs c.yml"), linted);
        let Command::Cleanup(cleanup) = parsed("bgd cleanup start -vvv --json-logs c.yml") else {
            unreachable!()
        };
        assert_eq!(cleanup.logs, Logs { verbose: true, json_logs: true });
        let refused =
            parse("bgd janitor start -v --json-logs c.yml".split(' ').map(OsString::from)).unwrap_err();
        assert!(refused.to_string().contains("grid-server janitor CONFIG"), "{refused}");
        let Command::Serve(serve) = parsed("grid-server serve -vv -v") else { unreachable!() };
        assert!(serve.logs.verbose);
    }

    /// Without a name, all commands read the one under `$XDG_CONFIG_HOME`.
    #[test]
    fn buildgrids_servers_need_no_configuration_named() {
        let Command::Serve(serve) = parsed("bgd server start --allow-insecure") else { unreachable!() };
        assert_eq!((serve.config, serve.allow_insecure), (None, true));
        assert_eq!(parsed("bgd server lint"), Command::Check(Check { config: None, strict: true }));
        let Command::Cleanup(cleanup) = parsed("bgd cleanup start --dry-run") else { unreachable!() };
        assert_eq!((cleanup.config, cleanup.dry_run), (None, true));
    }

    #[test]
    fn our_own_name_takes_our_own_commands_only() {
        assert!(parse(["grid-server", "server", "start"].map(OsString::from)).is_err());
        assert!(parse(["bgd", "serve"].map(OsString::from)).is_err());
        assert_eq!(
            parsed("grid-server check --strict"),
            Command::Check(Check { config: None, strict: true })
        );
    }
}
