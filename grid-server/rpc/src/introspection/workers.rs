//! `ListWorkers`: the bots that an instance's jobs may run on, in numbered pages.

use grid_core::InstanceName;
use grid_proto::buildgrid::{ListWorkersRequest, ListWorkersResponse, RegisteredWorker, WorkerOperation};
use grid_proto::rwapi;
use grid_scheduler::fleet::FleetBot;
use grid_scheduler::service::Why;
use grid_scheduler::session::{BotStatus, Session};
use tonic::Status;

use super::Page;
use crate::digests;
use crate::error::status;
use crate::execution::ExecutionInstance;
use crate::execution::render::{self, timestamp};
use crate::fleet::leases;

/// One page of an instance's bots, by name.
pub(super) async fn list(
    name: &InstanceName,
    instance: &ExecutionInstance,
    request: &ListWorkersRequest,
) -> Result<ListWorkersResponse, Status> {
    let page = Page::of(request.page, request.page_size)?;
    let fleet = instance.scheduler.fleet().await.map_err(status)?;
    let pool = instance.scheduler.pool(name.as_str());
    let part = request.worker_name.to_lowercase();
    let mut bots: Vec<&FleetBot> =
        fleet.bots.iter().filter(|bot| serves(&bot.session, pool) && matches(&bot.session, &part)).collect();
    bots.sort_by(|a, b| (&a.session.bot_id, a.session.id).cmp(&(&b.session.bot_id, b.session.id)));
    let total = bots.len();
    let skipped = usize::try_from(page.skipped()).unwrap_or(usize::MAX);
    let shown: Vec<&FleetBot> = bots.into_iter().skip(skipped).take(page.size as usize).collect();
    let running = leases(&instance.scheduler, shown.iter().any(|bot| bot.leases > 0)).await?;
    Ok(ListWorkersResponse {
        page: i32::try_from(page.number).unwrap_or(i32::MAX),
        page_size: i32::try_from(page.size).unwrap_or(i32::MAX),
        total: i32::try_from(total).unwrap_or(i32::MAX),
        workers: shown.iter().map(|bot| worker(name, &bot.session, &running)).collect(),
    })
}

/// Whether a bot takes jobs of this pool of instances.
fn serves(session: &Session, pool: &str) -> bool {
    session.pool == pool || session.pool == "*"
}

fn matches(session: &Session, part: &str) -> bool {
    session.bot_id.to_lowercase().contains(part) || session.id.to_string().contains(part)
}

fn worker(name: &InstanceName, session: &Session, running: &[Why]) -> RegisteredWorker {
    let held = running.iter().filter(|why| why.job.session() == Some(session.id));
    let operations: Vec<WorkerOperation> = held
        .flat_map(|why| {
            let digest = digests::to_wire(&why.job.spec.action_digest);
            // Instances may share a bot, and a caller of one has no business in another.
            let own = why.operations.iter().filter(|operation| operation.instance == name.as_str());
            own.map(move |operation| WorkerOperation {
                operation_name: render::name(operation),
                action_digest: Some(digest.clone()),
            })
        })
        .collect();
    RegisteredWorker {
        session_name: session.id.to_string(),
        worker_name: session.bot_id.clone(),
        last_updated: Some(timestamp(session.last_seen)),
        bot_status: bot_status(session.status).into(),
        expiry_time: Some(timestamp(session.expires_at)),
        action_digest: operations.last().and_then(|operation| operation.action_digest.clone()),
        operations,
    }
}

const fn bot_status(status: BotStatus) -> rwapi::BotStatus {
    match status {
        BotStatus::Ok => rwapi::BotStatus::Ok,
        BotStatus::Unhealthy => rwapi::BotStatus::Unhealthy,
        BotStatus::HostRebooting => rwapi::BotStatus::HostRebooting,
        BotStatus::Terminating => rwapi::BotStatus::BotTerminating,
    }
}
