//! Fleet's messages, from and to the scheduler's own types.

use std::time::Duration;

use grid_core::Timestamp;
use grid_proto::fleet::drain_target::Target;
use grid_proto::fleet::list_pools_response::DeclaredPool;
use grid_proto::fleet::{self as proto, DeclarePoolsRequest, DrainRequest, Property};
use grid_proto::reapi::execution_stage;
use grid_scheduler::engine::DrainOrder;
use grid_scheduler::fleet::demand::{Demand, PoolDemand, Quantiles, Unplaced};
use grid_scheduler::fleet::{
    BotState, Declaration, DrainProgress, DrainReason, DrainState, DrainTarget, FleetBot, Mismatch, Pool,
    Verdict, View, WaitReason,
};
use grid_scheduler::job::{Job, Outcome, Stage};
use grid_scheduler::properties::Properties;
use grid_scheduler::service::Why;

use super::age;
use crate::error::grpc_code;
use crate::execution::render;
use crate::execution::render::timestamp;
use crate::{RpcError, digests, metadata};

/// What an owner declares.
pub(super) fn declaration(request: DeclarePoolsRequest) -> Declaration {
    let pools = request.pools.into_iter().map(read_pool).collect();
    Declaration { owner: request.owner, revision: request.revision, declared_at: Timestamp::default(), pools }
}

fn read_pool(pool: proto::Pool) -> Pool {
    let mut properties = Properties::new();
    for property in pool.properties {
        properties.entry(property.key).or_default().insert(property.value);
    }
    Pool {
        name: pool.name,
        grid: pool.grid,
        instances: pool.instance_names.into_iter().collect(),
        properties,
        ignored: pool.ignored_keys.into_iter().collect(),
        runner_images: pool.runner_images,
        stands_for: pool.stands_for_images,
        max_workers: pool.max_workers,
        concurrency: pool.concurrency,
        priority: pool.priority,
        autoscaled: pool.autoscaled,
    }
}

/// The pools of a declaration.
pub(super) fn declared(declaration: &Declaration) -> impl Iterator<Item = DeclaredPool> {
    declaration.pools.iter().map(|pool| DeclaredPool {
        pool: Some(write_pool(pool)),
        owner: declaration.owner.clone(),
        revision: declaration.revision,
        declared_at: Some(timestamp(declaration.declared_at)),
    })
}

fn write_pool(pool: &Pool) -> proto::Pool {
    proto::Pool {
        name: pool.name.clone(),
        grid: pool.grid.clone(),
        instance_names: pool.instances.iter().cloned().collect(),
        properties: flat(&pool.properties),
        ignored_keys: pool.ignored.iter().cloned().collect(),
        runner_images: pool.runner_images.clone(),
        stands_for_images: pool.stands_for.clone(),
        max_workers: pool.max_workers,
        concurrency: pool.concurrency,
        priority: pool.priority,
        autoscaled: pool.autoscaled,
    }
}

/// What pools are listed by.
pub(super) fn pool_name(declared: &DeclaredPool) -> &str {
    declared.pool.as_ref().map_or("", |pool| &pool.name)
}

fn flat(properties: &Properties) -> Vec<Property> {
    let pairs = properties.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
    pairs.map(|(key, value)| Property { key: key.clone(), value: value.clone() }).collect()
}

fn pairs(pairs: &[(String, String)]) -> Vec<Property> {
    pairs.iter().map(|(key, value)| Property { key: key.clone(), value: value.clone() }).collect()
}

/// A duration of a request; `None` where it is not set.
pub(super) fn duration(
    field: &'static str,
    wire: Option<prost_types::Duration>,
) -> Result<Option<Duration>, RpcError> {
    let read = wire.map(Duration::try_from).transpose();
    read.map_err(|_| RpcError::field(field, "is negative or not a duration"))
}

/// The demand of these pools, all where none is named.
pub(super) fn demand(demand: &Demand, pools: &[String]) -> proto::Demand {
    let wanted = |(name, _): &(&String, &PoolDemand)| pools.is_empty() || pools.contains(name);
    let pool = |(name, pool): (&String, &PoolDemand)| proto::PoolDemand {
        pool: name.clone(),
        queued: pool.queued,
        executing: pool.executing,
        oldest_queue_age: age(demand.at, pool.oldest),
        required_slots: pool.required_slots(),
        wakeup_generation: pool.wakeup,
        bots: pool.bots,
        slots: pool.slots,
        idle_slots: pool.idle_slots,
        recent_queue_time: pool.queue_time.map(quantiles),
    };
    proto::Demand {
        observed_at: Some(timestamp(demand.at)),
        pools: demand.pools.iter().filter(wanted).map(pool).collect(),
        unplaced: demand.unplaced.iter().map(|unplaced| write_unplaced(demand.at, unplaced)).collect(),
    }
}

fn write_unplaced(now: Timestamp, unplaced: &Unplaced) -> proto::UnplacedDemand {
    proto::UnplacedDemand {
        instance_name: unplaced.requirement.pool.clone(),
        requirements: flat(&unplaced.requirement.must),
        queued: unplaced.queued,
        oldest_queue_age: age(now, unplaced.oldest),
        mismatch: unplaced.why.mismatch.as_ref().map(mismatch),
    }
}

/// Quantiles of a time as messages carry them.
pub(super) fn quantiles(quantiles: Quantiles<Duration>) -> proto::DurationQuantiles {
    let write = |time: Duration| prost_types::Duration::try_from(time).ok();
    proto::DurationQuantiles {
        p50: write(quantiles.p50),
        p90: write(quantiles.p90),
        p99: write(quantiles.p99),
        max: write(quantiles.max),
    }
}

fn mismatch(mismatch: &Mismatch) -> proto::Mismatch {
    proto::Mismatch {
        nearest_pool: mismatch.nearest.clone(),
        missing: pairs(&mismatch.missing),
        offered_values: mismatch.offered.clone(),
    }
}

/// What a request wants drained.
pub(super) fn order(request: DrainRequest) -> Result<DrainOrder, RpcError> {
    let reason = match request.reason() {
        proto::DrainReason::Unspecified => DrainReason::Unspecified,
        proto::DrainReason::ScaleDown => DrainReason::ScaleDown,
        proto::DrainReason::Upgrade => DrainReason::Upgrade,
        proto::DrainReason::Node => DrainReason::Node,
        proto::DrainReason::SpotNotice => DrainReason::SpotNotice,
        proto::DrainReason::Faulty => DrainReason::Faulty,
        proto::DrainReason::Manual => DrainReason::Manual,
    };
    let grace = duration("grace", request.grace)?.unwrap_or_default();
    Ok(DrainOrder { targets: targets(request.targets)?, grace, reason })
}

/// What drains of a request are of; at least one.
pub(super) fn targets(wire: Vec<proto::DrainTarget>) -> Result<Vec<DrainTarget>, RpcError> {
    if wire.is_empty() {
        return Err(RpcError::field("targets", "names nothing"));
    }
    wire.into_iter().map(|wire| target("targets", Some(wire))).collect()
}

/// What a drain is of.
pub(super) fn target(field: &'static str, wire: Option<proto::DrainTarget>) -> Result<DrainTarget, RpcError> {
    let target = match wire.and_then(|wire| wire.target) {
        Some(Target::Bot(name)) if !name.is_empty() => DrainTarget::Bot(name),
        Some(Target::Pool(name)) if !name.is_empty() => DrainTarget::Pool(name),
        Some(Target::Node(name)) if !name.is_empty() => DrainTarget::Node(name),
        _ => return Err(RpcError::field(field, "names no bot, pool or node")),
    };
    Ok(target)
}

/// A drain and how far it got.
pub(super) fn drain(progress: &DrainProgress) -> proto::DrainStatus {
    let drain = &progress.drain;
    let target = match &drain.target {
        DrainTarget::Bot(name) => Target::Bot(name.clone()),
        DrainTarget::Pool(name) => Target::Pool(name.clone()),
        DrainTarget::Node(name) => Target::Node(name.clone()),
    };
    let state = match progress.state {
        DrainState::Requested => proto::DrainState::Requested,
        DrainState::Acknowledged => proto::DrainState::Acknowledged,
        DrainState::Drained => proto::DrainState::Drained,
    };
    let reason = match drain.reason {
        DrainReason::Unspecified => proto::DrainReason::Unspecified,
        DrainReason::ScaleDown => proto::DrainReason::ScaleDown,
        DrainReason::Upgrade => proto::DrainReason::Upgrade,
        DrainReason::Node => proto::DrainReason::Node,
        DrainReason::SpotNotice => proto::DrainReason::SpotNotice,
        DrainReason::Faulty => proto::DrainReason::Faulty,
        DrainReason::Manual => proto::DrainReason::Manual,
    };
    proto::DrainStatus {
        target: Some(proto::DrainTarget { target: Some(target) }),
        state: state.into(),
        reason: reason.into(),
        requested_at: Some(timestamp(drain.requested_at)),
        deadline: Some(timestamp(drain.deadline)),
        bots: progress.bots,
        acknowledged_bots: progress.acknowledged,
        running_leases: progress.running,
        returned_leases: drain.returned,
    }
}

/// What a bot does.
pub(super) const fn bot_state(state: BotState) -> proto::BotState {
    match state {
        BotState::Idle => proto::BotState::Idle,
        BotState::Busy => proto::BotState::Busy,
        BotState::Draining => proto::BotState::Draining,
        BotState::Unhealthy => proto::BotState::Unhealthy,
        BotState::Lost => proto::BotState::Lost,
        BotState::Terminating => proto::BotState::Terminating,
    }
}

/// A bot, with the jobs that it runs.
pub(super) fn bot<'a>(bot: &FleetBot, fleet: &View, jobs: impl Iterator<Item = &'a Why>) -> proto::Bot {
    let session = &bot.session;
    let drains = fleet.drains.iter().filter(|drain| drain.target.covers(session));
    let first = drains.min_by_key(|drain| drain.deadline);
    let instances = [&session.instance].into_iter().filter(|instance| *instance != "*").cloned().collect();
    proto::Bot {
        name: session.id.to_string(),
        bot_id: session.bot_id.clone(),
        pool: session.worker_pool.clone(),
        node: session.node.clone(),
        state: bot_state(bot.state).into(),
        leases: jobs.map(lease).collect(),
        slots: session.capacity,
        last_seen: Some(timestamp(session.last_seen)),
        expires_at: Some(timestamp(session.expires_at)),
        idle_since: session.idle_since.filter(|_| bot.leases == 0).map(timestamp),
        drain: first.map(|found| drain(&found.progress(&fleet.bots))),
        consecutive_faults: session.faults,
        instance_names: instances,
        properties: flat(&session.properties),
        version: session.version_of_bot.clone(),
    }
}

fn lease(why: &Why) -> proto::BotLease {
    let job = &why.job;
    let target = why.operations.first().map(|operation| operation.metadata.target_id.clone());
    proto::BotLease {
        job: job.id.to_string(),
        assigned_at: job.state.started_at.map(timestamp),
        action_mnemonic: job.spec.mnemonic.clone(),
        target_id: target.unwrap_or_default(),
    }
}

fn stage(job: &Job) -> execution_stage::Value {
    match job.state.stage {
        Stage::Queued => execution_stage::Value::Queued,
        Stage::Executing => execution_stage::Value::Executing,
        Stage::Completed => execution_stage::Value::Completed,
    }
}

/// A job.
pub(super) fn job(why: &Why) -> proto::Job {
    let (job, state) = (&why.job, &why.job.state);
    let outcome = state.outcome.as_ref().map(|outcome| match outcome {
        Outcome::Finished { .. } => grid_proto::rpc::Status::default(),
        Outcome::Failed { code, message } => grid_proto::rpc::Status {
            code: grpc_code(*code) as i32,
            message: message.clone(),
            details: Vec::new(),
        },
    });
    let failures = state.failures;
    proto::Job {
        name: job.id.to_string(),
        instance_name: job.spec.instance.clone(),
        action_digest: Some(digests::to_wire(&job.spec.action_digest)),
        digest_function: job.spec.action_digest.function().to_wire(),
        stage: stage(job).into(),
        operations: why.operations.iter().map(render::name).collect(),
        priority: state.priority,
        requirements: flat(&why.requirement.must),
        pool: why.pool.clone(),
        bot: state.lease.as_ref().map(|lease| lease.bot_id.clone()).unwrap_or_default(),
        queued_at: Some(timestamp(state.queued_at)),
        assigned_at: state.started_at.map(timestamp),
        completed_at: state.completed_at.map(timestamp),
        attempts: failures.worker_lost + failures.internal + failures.unavailable,
        request_metadata: why.operations.first().map(|operation| metadata::to_wire(&operation.metadata)),
        wait_reason: reason(why.explanation.reason).into(),
        status: outcome,
    }
}

pub(super) const fn reason(reason: WaitReason) -> proto::WaitReason {
    match reason {
        WaitReason::NotWaiting => proto::WaitReason::NotWaiting,
        WaitReason::BehindOthers => proto::WaitReason::BehindOthers,
        WaitReason::ScalingUp => proto::WaitReason::ScalingUp,
        WaitReason::PoolAtMaximum => proto::WaitReason::PoolAtMaximum,
        WaitReason::PoolNotScaled => proto::WaitReason::PoolNotScaled,
        WaitReason::PoolStopped => proto::WaitReason::PoolStopped,
        WaitReason::NoUsableBot => proto::WaitReason::NoUsableBot,
        WaitReason::NoPoolFits => proto::WaitReason::NoPoolFits,
        WaitReason::NoBotFits => proto::WaitReason::NoBotFits,
        WaitReason::NoScheduler => proto::WaitReason::NoScheduler,
    }
}

/// Why an operation has not finished.
pub(super) fn why(operation: String, why: &Why) -> proto::Explanation {
    let waits = why.job.state.stage == Stage::Queued;
    let verdict = |verdict: &Verdict| proto::PoolVerdict {
        pool: verdict.pool.clone(),
        missing: pairs(&verdict.missing),
        bots: verdict.bots,
        max_workers: verdict.max_workers,
    };
    proto::Explanation {
        operation,
        stage: stage(&why.job).into(),
        reason: reason(why.explanation.reason).into(),
        text: why.explanation.text.clone(),
        mismatch: why.explanation.mismatch.as_ref().map(mismatch),
        pool: why.pool.clone(),
        queue_position: why.position,
        expected_wait: why.expected.and_then(|wait| prost_types::Duration::try_from(wait).ok()),
        waited: age(
            if waits { why.at } else { why.job.state.started_at.unwrap_or(why.at) },
            Some(why.job.state.queued_at),
        ),
        fails_at: why.fails_at.map(timestamp),
        pools: why.verdicts.iter().map(verdict).collect(),
        job: Some(job(why)),
        attempts: why.runs.iter().map(super::history::attempt).collect(),
        waits: why.waits.iter().map(super::history::wait).collect(),
    }
}
