//! Lists in pages: bots, drains and jobs. A token holds the key of the page's last entry, so that it works on every
//! replica.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grid_core::Timestamp;
use grid_proto::fleet::{ListBotsRequest, ListBotsResponse, ListJobsRequest, ListJobsResponse};
use grid_proto::reapi::execution_stage;
use grid_scheduler::Scheduler;
use grid_scheduler::fleet::{DrainTarget, FleetBot};
use grid_scheduler::ids::JobId;
use grid_scheduler::job::Stage;
use grid_scheduler::service::{JobFilter, Why};
use grid_scheduler::store::JobPage;
use tonic::Status;

use super::wire;
use crate::RpcError;
use crate::error::status;

/// Entries a page, at most and where the request says nothing.
const PAGE: u32 = 1_000;
/// How many pages of the store one call looks through for jobs that its filter shows.
const LOOKS: usize = 20;

/// The entries of one page, and the token of the next; `key` is unique and orders them.
pub(super) fn page<'a, T>(
    all: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&T) -> String,
    size: u32,
    token: &str,
) -> Result<(Vec<&'a T>, String), RpcError> {
    let size = usize::try_from(page_size(size)?).unwrap_or(usize::MAX);
    let after = read_token(token)?;
    let mut entries: Vec<(String, &T)> = all.into_iter().map(|entry| (key(entry), entry)).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.retain(|(key, _)| after.as_ref().is_none_or(|after| key > after));
    let more = entries.len() > size;
    entries.truncate(size);
    let next = entries.last().filter(|_| more).map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
    Ok((entries.into_iter().map(|(_, entry)| entry).collect(), next.unwrap_or_default()))
}

fn page_size(size: u32) -> Result<u32, RpcError> {
    match size {
        0 => Ok(PAGE),
        size if size <= PAGE => Ok(size),
        _ => Err(RpcError::field("page_size", format!("is more than {PAGE}"))),
    }
}

fn read_token(token: &str) -> Result<Option<String>, RpcError> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    read.map(Some).ok_or_else(|| RpcError::field("page_token", "was not given by this server"))
}

/// What orders drains, and names one.
pub(super) fn target_key(target: &DrainTarget) -> String {
    match target {
        DrainTarget::Bot(name) => format!("bot {name}"),
        DrainTarget::Pool(name) => format!("pool {name}"),
        DrainTarget::Node(name) => format!("node {name}"),
    }
}

/// The bots that a request selects.
pub(super) async fn bots(
    scheduler: &Scheduler,
    request: &ListBotsRequest,
) -> Result<ListBotsResponse, Status> {
    let fleet = scheduler.fleet().await.map_err(status)?;
    let shown = |bot: &&FleetBot| {
        (request.pool.is_empty() || request.pool == bot.session.worker_pool)
            && (request.node.is_empty() || request.node == bot.session.node)
            && (request.states.is_empty() || request.states.contains(&wire::bot_state(bot.state).into()))
    };
    let key = |bot: &FleetBot| format!("{} {}", bot.session.bot_id, bot.session.id);
    let selected = fleet.bots.iter().filter(shown);
    let (page, next_page_token) =
        page(selected, key, request.page_size, &request.page_token).map_err(status)?;
    let leases = leases(scheduler, page.iter().any(|bot| bot.leases > 0)).await?;
    let of = |bot: &FleetBot| {
        let id = bot.session.id;
        leases.iter().filter(move |why| why.job.session() == Some(id))
    };
    let bots = page.iter().map(|bot| wire::bot(bot, &fleet, of(bot))).collect();
    Ok(ListBotsResponse { bots, next_page_token })
}

/// Every job that runs, where any does.
pub(crate) async fn leases(scheduler: &Scheduler, any: bool) -> Result<Vec<Why>, Status> {
    let mut jobs = Vec::new();
    let mut next = JobPage { stages: vec![Stage::Executing], limit: PAGE, ..JobPage::default() };
    if !any {
        return Ok(jobs);
    }
    loop {
        let (page, after) = scheduler.jobs(&next, &JobFilter::default()).await.map_err(status)?;
        jobs.extend(page);
        if after.is_none() {
            return Ok(jobs);
        }
        next.after = after;
    }
}

/// The jobs that a request selects.
pub(super) async fn jobs(
    scheduler: &Scheduler,
    request: &ListJobsRequest,
) -> Result<ListJobsResponse, Status> {
    let limit = page_size(request.page_size).map_err(status)?;
    let filter = JobFilter {
        instance: request.instance_name.clone(),
        pool: request.pool.clone(),
        bot: request.bot.clone(),
        invocation: request.tool_invocation_id.clone(),
    };
    let least = wire::duration("min_queue_age", request.min_queue_age).map_err(status)?;
    let until = match least {
        Some(age) => Some(scheduler.fleet().await.map_err(status)?.now.before(age)),
        None => None,
    };
    let after = read_token(&request.page_token).map_err(status)?.map(|token| job_key(&token)).transpose();
    let mut next =
        JobPage { stages: stages(request).map_err(status)?, until, after: after.map_err(status)?, limit };
    let mut shown = Vec::new();
    for _ in 0..LOOKS {
        let (page, after) = scheduler.jobs(&next, &filter).await.map_err(status)?;
        shown.extend(page);
        next.after = after;
        if after.is_none() || !shown.is_empty() {
            break;
        }
    }
    let token = |(at, id): (Timestamp, JobId)| URL_SAFE_NO_PAD.encode(format!("{} {id}", at.0));
    let next_page_token = next.after.map(token).unwrap_or_default();
    Ok(ListJobsResponse { jobs: shown.iter().map(wire::job).collect(), next_page_token })
}

fn job_key(token: &str) -> Result<(Timestamp, JobId), RpcError> {
    let read = token
        .split_once(' ')
        .and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), JobId(id.parse().ok()?))));
    read.ok_or_else(|| RpcError::field("page_token", "was not given by this server"))
}

fn stages(request: &ListJobsRequest) -> Result<Vec<Stage>, RpcError> {
    if request.stages.is_empty() {
        return Ok(vec![Stage::Queued, Stage::Executing]);
    }
    let mut stages = Vec::new();
    for stage in request.stages() {
        let stage = match stage {
            execution_stage::Value::Queued => Stage::Queued,
            execution_stage::Value::Executing => Stage::Executing,
            execution_stage::Value::Completed => Stage::Completed,
            execution_stage::Value::Unknown | execution_stage::Value::CacheCheck => {
                return Err(RpcError::field("stages", "jobs are QUEUED, EXECUTING or COMPLETED"));
            }
        };
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    Ok(stages)
}
