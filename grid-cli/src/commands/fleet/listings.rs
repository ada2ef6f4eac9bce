//! Pools, bots and jobs, page by page.

use std::collections::HashMap;

use grid_proto::fleet::list_pools_response::DeclaredPool;
use grid_proto::fleet::{
    Bot, Demand, DemandRequest, Job, ListBotsRequest, ListJobsRequest, ListPoolsRequest, PoolDemand,
};

use crate::commands::why::properties;
use crate::commands::{operations, times};
use crate::exit::Failure;
use crate::printer::Printer;
use crate::remote::Remote;

/// Prints the declared pools with their demand, then the demand that no pool fits.
pub(super) async fn pools(remote: &Remote, json: bool, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let declared = remote.call("list the pools", || {
        let mut client = remote.fleet();
        async move { client.list_pools(ListPoolsRequest::default()).await }
    });
    let declared = declared.await?.pools;
    let demand = remote.call("get the demand", || {
        let mut client = remote.fleet();
        async move { client.get_demand(DemandRequest::default()).await }
    });
    let demand = demand.await?;
    if json {
        declared.iter().try_for_each(|pool| printer.message(pool))?;
        return printer.message(&demand);
    }
    let by_name: HashMap<_, _> = demand.pools.iter().map(|pool| (pool.pool.as_str(), pool)).collect();
    let rows: Vec<_> = declared.iter().map(|pool| pool_row(pool, &by_name)).collect();
    printer
        .table(&["POOL", "QUEUED", "RUNNING", "BOTS", "MAX", "IDLE SLOTS", "OLDEST", "PROPERTIES"], &rows)?;
    print_unplaced(&demand, printer)
}

fn pool_row(declared: &DeclaredPool, demand: &HashMap<&str, &PoolDemand>) -> Vec<String> {
    let pool = declared.pool.clone().unwrap_or_default();
    let none = PoolDemand::default();
    let demand = demand.get(pool.name.as_str()).copied().unwrap_or(&none);
    vec![
        pool.name,
        demand.queued.to_string(),
        demand.executing.to_string(),
        demand.bots.to_string(),
        pool.max_workers.to_string(),
        demand.idle_slots.to_string(),
        demand.oldest_queue_age.as_ref().map_or_else(|| "-".to_owned(), times::duration),
        properties(&pool.properties),
    ]
}

fn print_unplaced(demand: &Demand, printer: &mut Printer<'_>) -> Result<(), Failure> {
    for unplaced in &demand.unplaced {
        let asked = properties(&unplaced.requirements);
        let (queued, instance) = (unplaced.queued, &unplaced.instance_name);
        printer
            .line(format_args!("no pool fits {queued} jobs of instance {instance:?} that ask for {asked}"))?;
    }
    Ok(())
}

/// Prints the bots that `request` selects.
pub(super) async fn bots(
    remote: &Remote,
    mut request: ListBotsRequest,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    loop {
        let page = remote.call("list the bots", || {
            let (mut client, request) = (remote.fleet(), request.clone());
            async move { client.list_bots(request).await }
        });
        let page = page.await?;
        if json {
            page.bots.iter().try_for_each(|bot| printer.message(bot))?;
        } else {
            rows.extend(page.bots.iter().map(bot_row));
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if json {
        return Ok(());
    }
    printer.table(&["BOT", "POOL", "NODE", "STATE", "LEASES", "SLOTS", "LAST SEEN", "VERSION"], &rows)
}

fn bot_row(bot: &Bot) -> Vec<String> {
    vec![
        bot.bot_id.clone(),
        bot.pool.clone(),
        bot.node.clone(),
        bot.state().as_str_name().trim_start_matches("BOT_STATE_").to_ascii_lowercase(),
        bot.leases.len().to_string(),
        bot.slots.to_string(),
        bot.last_seen.as_ref().map(ToString::to_string).unwrap_or_default(),
        bot.version.clone(),
    ]
}

/// Prints the jobs that `request` selects.
pub(super) async fn jobs(
    remote: &Remote,
    mut request: ListJobsRequest,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    loop {
        let page = remote.call("list the jobs", || {
            let (mut client, request) = (remote.fleet(), request.clone());
            async move { client.list_jobs(request).await }
        });
        let page = page.await?;
        if json {
            page.jobs.iter().try_for_each(|job| printer.message(job))?;
        } else {
            rows.extend(page.jobs.iter().map(job_row));
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if json {
        return Ok(());
    }
    printer.table(&["OPERATION", "STAGE", "PRIORITY", "POOL", "BOT", "QUEUED AT", "WAITS FOR"], &rows)
}

/// A job goes by its first operation, which is what the other commands take.
fn job_row(job: &Job) -> Vec<String> {
    let reason = job.wait_reason().as_str_name().trim_start_matches("WAIT_REASON_").to_ascii_lowercase();
    vec![
        job.operations.first().unwrap_or(&job.name).clone(),
        operations::stage_name(job.stage),
        job.priority.to_string(),
        job.pool.clone(),
        job.bot.clone(),
        job.queued_at.as_ref().map(ToString::to_string).unwrap_or_default(),
        if reason == "unspecified" { String::new() } else { reason },
    ]
}
