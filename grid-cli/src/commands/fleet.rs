//! `fleet`: a grid's pools, bots and jobs as those see them who run it. Needs the grid's admin token.

mod drains;
mod listings;
mod sizes;

use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use grid_proto::fleet::drain_target::Target;
use grid_proto::fleet::{DrainTarget, ListBotsRequest, ListJobsRequest};

use crate::args::connection::Connection;
use crate::commands::times;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::Remote;

const EXAMPLES: &str = "\
Examples:
  Pools with their demand, and what no pool fits:
    grid fleet pools --auth-token admin.token
  Bots of one pool; jobs that have waited for ten minutes:
    grid fleet bots --pool builds/linux
    grid fleet jobs --min-queue-age 10m
  What compiling and linking take, to size pools by:
    grid fleet sizes --within 7d
  Empty a node before it is taken away, and wait until it is:
    grid fleet drain --node worker-3 --grace 15m --wait
    grid fleet undrain --node worker-3
";

/// Look at pools, bots and jobs; drain bots.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    /// List pools with their demand
    Pools,
    /// List bots that have a session
    Bots {
        /// Of this pool only
        #[arg(long, value_name = "NAMESPACE/NAME", default_value = "", hide_default_value = true)]
        pool: String,
        /// On this node only
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        node: String,
    },
    /// List jobs that are queued or run
    Jobs {
        /// Of this pool only
        #[arg(long, value_name = "NAMESPACE/NAME", default_value = "", hide_default_value = true)]
        pool: String,
        /// On this bot only
        #[arg(long, value_name = "BOT_ID", default_value = "", hide_default_value = true)]
        bot: String,
        /// Of this invocation only
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        invocation: String,
        /// Only those that have waited this long
        #[arg(long, value_name = "DURATION", value_parser = times::parse)]
        min_queue_age: Option<Duration>,
    },
    /// List what actions of each kind took: run time, processor time and memory, to size pools by
    Sizes {
        /// Look back so far
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = times::parse)]
        within: Duration,
    },
    /// List drains
    Drains,
    /// Give bots no new leases, and take back what still runs after the grace
    Drain {
        #[command(flatten)]
        target: TargetArgs,
        /// How long leases may still run
        #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = times::parse)]
        grace: Duration,
        /// Return when the last lease is gone
        #[arg(long)]
        wait: bool,
    },
    /// End a drain: the bots take leases again
    Undrain {
        #[command(flatten)]
        target: TargetArgs,
    },
}

/// What to drain.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true))]
struct TargetArgs {
    /// One bot, by its bot id
    #[arg(long, group = "target", value_name = "BOT_ID")]
    bot: Option<String>,
    /// All bots of a pool, those that join later too
    #[arg(long, group = "target", value_name = "NAMESPACE/NAME")]
    pool: Option<String>,
    /// All bots on a node, those that join later too
    #[arg(long, group = "target", value_name = "NAME")]
    node: Option<String>,
}

impl TargetArgs {
    fn target(self) -> DrainTarget {
        let bot = self.bot.map(Target::Bot);
        DrainTarget { target: bot.or(self.pool.map(Target::Pool)).or(self.node.map(Target::Node)) }
    }
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        let json = self.connection.json;
        // The unnamed instance is no selection here: it is what `--instance-name` is when it is not given.
        let instance = Some(self.connection.instance_name).filter(|instance| !instance.is_empty());
        match self.command {
            FleetCommand::Pools => listings::pools(&remote, json, printer).await?,
            FleetCommand::Bots { pool, node } => {
                let request = ListBotsRequest { pool, node, ..Default::default() };
                listings::bots(&remote, request, json, printer).await?;
            }
            FleetCommand::Jobs { pool, bot, invocation, min_queue_age } => {
                let request = ListJobsRequest {
                    instance_name: instance,
                    pool,
                    bot,
                    tool_invocation_id: invocation,
                    min_queue_age: min_queue_age.map(times::to_wire),
                    ..Default::default()
                };
                listings::jobs(&remote, request, json, printer).await?;
            }
            FleetCommand::Sizes { within } => sizes::list(&remote, within, json, printer).await?,
            FleetCommand::Drains => drains::list(&remote, json, printer).await?,
            FleetCommand::Drain { target, grace, wait } => {
                drains::drain(&remote, target.target(), grace, wait, json, printer).await?;
            }
            FleetCommand::Undrain { target } => drains::undrain(&remote, target.target()).await?,
        }
        Ok(Exit::Success)
    }
}
