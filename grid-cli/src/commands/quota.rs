//! `quota`: how many slots of a bot cohort an instance is guaranteed, and may have.

use clap::Subcommand;
use grid_proto::buildgrid::{
    DeleteInstanceQuotaRequest, GetAllInstanceQuotaRequest, GetInstanceQuotaRequest, InstanceQuota,
    PutInstanceQuotaRequest,
};

use crate::args::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::Remote;

const EXAMPLES: &str = "\
Examples:
  grid quota list main
  grid quota put main linux --min-quota 8 --max-quota 64
  grid quota get main linux --json
  grid quota delete main linux
";

/// Read and set the quotas of instances.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: QuotaCommand,
}

#[derive(Debug, Subcommand)]
enum QuotaCommand {
    /// Show one quota
    Get {
        /// Instance that the quota is for
        instance: String,
        /// Bots that it is about
        bot_cohort: String,
    },
    /// Show all quotas of an instance
    List {
        /// Instance that the quotas are for
        instance: String,
    },
    /// Set a quota
    Put {
        /// Instance that the quota is for
        instance: String,
        /// Bots that it is about
        bot_cohort: String,
        /// Slots that the instance is guaranteed
        #[arg(long, value_name = "N")]
        min_quota: i64,
        /// Slots that the instance never exceeds
        #[arg(long, value_name = "N")]
        max_quota: i64,
    },
    /// Remove a quota: the instance is then unlimited in the cohort
    Delete {
        /// Instance that the quota is for
        instance: String,
        /// Bots that it is about
        bot_cohort: String,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        let json = self.connection.json;
        match self.command {
            QuotaCommand::Get { instance, bot_cohort } => {
                print(&[get(&remote, instance, bot_cohort).await?], json, printer)?;
            }
            QuotaCommand::List { instance } => print(&list(&remote, instance).await?, json, printer)?,
            QuotaCommand::Put { instance, bot_cohort, min_quota, max_quota } => {
                let instance_name = instance;
                put(&remote, PutInstanceQuotaRequest { instance_name, bot_cohort, min_quota, max_quota })
                    .await?;
            }
            QuotaCommand::Delete { instance, bot_cohort } => delete(&remote, instance, bot_cohort).await?,
        }
        Ok(Exit::Success)
    }
}

async fn get(remote: &Remote, instance_name: String, bot_cohort: String) -> Result<InstanceQuota, Failure> {
    let what = format!("get the quota of instance {instance_name:?} in cohort {bot_cohort:?}");
    let request = GetInstanceQuotaRequest { instance_name, bot_cohort };
    let answer = remote
        .call(&what, || {
            let (mut client, request) = (remote.quota(), request.clone());
            async move { client.get_instance_quota(request).await }
        })
        .await?;
    answer.instance_quota.ok_or_else(|| Failure::NotFound(format!("{what}: there is none")))
}

async fn list(remote: &Remote, instance_name: String) -> Result<Vec<InstanceQuota>, Failure> {
    let what = format!("list the quotas of instance {instance_name:?}");
    let request = GetAllInstanceQuotaRequest { instance_name };
    let answer = remote.call(&what, || {
        let (mut client, request) = (remote.quota(), request.clone());
        async move { client.get_all_instance_quota(request).await }
    });
    answer.await.map(|answer| answer.instance_quotas)
}

async fn put(remote: &Remote, request: PutInstanceQuotaRequest) -> Result<(), Failure> {
    if request.min_quota < 0 || request.max_quota < request.min_quota {
        let (min, max) = (request.min_quota, request.max_quota);
        return Err(Failure::Usage(format!(
            "quota {min} to {max}: expected 0 <= --min-quota <= --max-quota"
        )));
    }
    let what =
        format!("set the quota of instance {:?} in cohort {:?}", request.instance_name, request.bot_cohort);
    let answer = remote.call(&what, || {
        let (mut client, request) = (remote.quota(), request.clone());
        async move { client.put_instance_quota(request).await }
    });
    answer.await.map(drop)
}

async fn delete(remote: &Remote, instance_name: String, bot_cohort: String) -> Result<(), Failure> {
    let what = format!("delete the quota of instance {instance_name:?} in cohort {bot_cohort:?}");
    let request = DeleteInstanceQuotaRequest { instance_name, bot_cohort };
    let answer = remote.call(&what, || {
        let (mut client, request) = (remote.quota(), request.clone());
        async move { client.delete_instance_quota(request).await }
    });
    answer.await.map(drop)
}

fn print(quotas: &[InstanceQuota], json: bool, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if json {
        return quotas.iter().try_for_each(|quota| printer.message(quota));
    }
    let rows: Vec<_> = quotas
        .iter()
        .map(|quota| {
            let numbers = [quota.min_quota, quota.max_quota, quota.current_usage].map(|n| n.to_string());
            [vec![quota.instance_name.clone(), quota.bot_cohort.clone()], numbers.to_vec()].concat()
        })
        .collect();
    printer.table(&["INSTANCE", "COHORT", "MIN", "MAX", "USED"], &rows)
}
