//! `BotSession` between its wire form and the scheduler's.

use std::time::Duration;

use grid_core::InstanceName;
use grid_proto::reapi::Action;
use grid_proto::rwapi::{BotSession, BotStatus as Wire, Lease, LeaseState, Worker};
use grid_scheduler::engine::{BotReport, Synced};
use grid_scheduler::ids::{JobId, SessionId};
use grid_scheduler::job::Job;
use grid_scheduler::properties::Properties;
use grid_scheduler::service::Standing;
use grid_scheduler::session::{BotStatus, ReportedLease, Session};
use prost::Name;
use prost_types::Any;

use crate::RpcError;
use crate::execution::render::timestamp;

/// More leases at once than any bot can mean.
const MAX_CAPACITY: u32 = 10_000;

/// What a bot that opens a session says of itself.
pub(super) fn standing(parent: &str, sent: &BotSession) -> Result<Standing, RpcError> {
    if sent.bot_id.is_empty() {
        return Err(RpcError::field("bot_session.bot_id", "is not set"));
    }
    let worker = sent.worker.clone().unwrap_or_default();
    Ok(Standing {
        instance: parent.to_owned(),
        bot_id: sent.bot_id.clone(),
        properties: properties(&worker),
        capacity: capacity(&worker)?.unwrap_or(1),
        priority: config(&worker, "priority")?.unwrap_or(0),
        status: status(sent.status),
        worker_pool: text(&worker, "pool"),
        node: text(&worker, "node"),
        version: text(&worker, "version"),
    })
}

/// The first report of a session that has just been opened.
pub(super) fn report(opened: &Session, sent: &BotSession, lifetime: Duration) -> BotReport {
    BotReport {
        session: opened.id,
        bot_id: opened.bot_id.clone(),
        properties: None,
        capacity: None,
        status: status(sent.status),
        leases: Vec::new(),
        lifetime,
    }
}

/// What a bot says in a later call.
pub(super) fn update(
    session: SessionId,
    sent: &BotSession,
    leases: Vec<ReportedLease>,
    lifetime: Duration,
) -> Result<BotReport, RpcError> {
    let worker = sent.worker.as_ref();
    Ok(BotReport {
        session,
        bot_id: sent.bot_id.clone(),
        properties: worker.map(properties),
        capacity: worker.map(capacity).transpose()?.flatten(),
        status: status(sent.status),
        leases,
        lifetime,
    })
}

/// The answer: the session as the bot sent it, with the leases that it holds. A bot with a `pace` is told to call again
/// within that time of its last call; its session lives on as long as any other.
pub(super) fn render(parent: &str, sent: BotSession, synced: &Synced, pace: Option<Duration>) -> BotSession {
    let session = &synced.session;
    let told = pace.map_or(session.expires_at, |pace| session.last_seen.after(pace));
    let expires_at = told.min(session.expires_at);
    let leases = synced.held.iter().map(|job| {
        let id = lease_id(job);
        let known = sent.leases.iter().find(|lease| lease.id == id);
        known.cloned().unwrap_or_else(|| new_lease(id, job))
    });
    let leases = leases.collect();
    let parent = InstanceName::new(parent).unwrap_or_default();
    BotSession {
        name: parent.join(&synced.session.id.to_string()),
        leases,
        expire_time: Some(timestamp(expires_at)),
        version: synced.session.version.to_string(),
        ..sent
    }
}

fn new_lease(id: String, job: &Job) -> Lease {
    // The action as it was uploaded, byte by byte: its digest stays what the client knows.
    let payload = Any { type_url: Action::type_url(), value: job.action.to_vec() };
    Lease { id, payload: Some(payload), state: LeaseState::Active.into(), ..Lease::default() }
}

/// `INSTANCE/JOB` for a job's first lease, `INSTANCE/JOB.N` for its Nth: news of an earlier one is never taken for
/// news of a later.
pub(super) fn lease_id(job: &Job) -> String {
    let instance = InstanceName::new(&job.spec.instance).unwrap_or_default();
    match job.state.attempts {
        0 | 1 => instance.join(&job.id.to_string()),
        n => instance.join(&format!("{}.{n}", job.id)),
    }
}

/// The job and the number of a lease; `None` for a name that this server never gave.
pub(super) fn parse_lease_id(id: &str) -> Option<(JobId, u32)> {
    let last = id.rsplit('/').next()?;
    let (job, attempt) = last.split_once('.').unwrap_or((last, "1"));
    Some((JobId(job.parse().ok()?), attempt.parse().ok()?))
}

fn status(wire: i32) -> BotStatus {
    match Wire::try_from(wire) {
        Ok(Wire::Unhealthy) => BotStatus::Unhealthy,
        Ok(Wire::HostRebooting) => BotStatus::HostRebooting,
        Ok(Wire::BotTerminating) => BotStatus::Terminating,
        Ok(Wire::Ok | Wire::Unspecified) | Err(_) => BotStatus::Ok,
    }
}

/// The properties of the worker and of its first device, as BuildGrid reads them.
fn properties(worker: &Worker) -> Properties {
    let mut properties = Properties::new();
    let own = worker.properties.iter().map(|p| (&p.key, &p.value));
    let device = worker.devices.first().into_iter().flat_map(|d| &d.properties).map(|p| (&p.key, &p.value));
    for (key, value) in own.chain(device) {
        properties.entry(key.clone()).or_default().insert(value.clone());
    }
    properties
}

fn capacity(worker: &Worker) -> Result<Option<u32>, RpcError> {
    Ok(config::<u32>(worker, "capacity")?.map(|capacity| capacity.min(MAX_CAPACITY)))
}

fn text(worker: &Worker, key: &str) -> String {
    worker.configs.iter().find(|c| c.key == key).map(|c| c.value.replace('\0', "")).unwrap_or_default()
}

fn config<T: std::str::FromStr>(worker: &Worker, key: &str) -> Result<Option<T>, RpcError> {
    let Some(config) = worker.configs.iter().find(|c| c.key == key) else { return Ok(None) };
    let field = || format!("bot_session.worker.configs[{key}]");
    config
        .value
        .parse()
        .map(Some)
        .map_err(|_| RpcError::field(field(), format!("{:?} is not a number", config.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_names_tell_job_and_attempt() {
        let job = JobId(uuid::Uuid::from_u128(7));
        assert_eq!(parse_lease_id(&format!("a/b/{job}")), Some((job, 1)));
        assert_eq!(parse_lease_id(&format!("{job}.3")), Some((job, 3)));
        for wrong in ["", "a/b", "x/y.z", "a/00000000-0000-0000-0000-000000000007.x"] {
            assert_eq!(parse_lease_id(wrong), None, "{wrong}");
        }
    }
}
