//! Jobs, bots and what schedulers do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use grid_core::ErrorCode;
use grid_scheduler::engine::SweepKind;
use grid_scheduler::history::{Ending, Run};
use grid_scheduler::service::{Assigned, CohortShare, Counts, Kind, SchedulerEvent};
use grid_scheduler::session::BotStatus;
use parking_lot::Mutex;

use super::{Tags, float, send, timer};
use crate::bus::{Bus, Value};

const JOB: &str = "job.duration.ms";
const STATUSES: [BotStatus; 4] =
    [BotStatus::Ok, BotStatus::Unhealthy, BotStatus::HostRebooting, BotStatus::Terminating];

/// Publishes how long a job waited for its first lease.
pub(crate) fn assigned(bus: &Bus, assigned: &Assigned<'_>) {
    job(bus, "Queued", assigned.pool, assigned.instance, assigned.waited);
}

/// Publishes how long an action ran that finished, and how long its client waited altogether.
pub(crate) fn ran(bus: &Bus, pool: &str, run: &Run) {
    if run.ending == Ending::Finished {
        job(bus, "Worker", pool, &run.instance, run.run_time());
        job(bus, "Total", pool, &run.instance, run.ended_at.since(run.queued_at));
    }
}

fn job(bus: &Bus, state: &'static str, pool: &str, instance: &str, took: Duration) {
    let tags = vec![
        ("state", state.into()),
        ("propertyLabel", pool.to_owned().into()),
        named(instance),
        // BuildGrid's word for a job that no assigner with a name was for.
        ("schedulerName", "none".into()),
    ];
    send(bus, JOB, Value::Time(took), tags);
}

fn named(instance: &str) -> (&'static str, std::borrow::Cow<'static, str>) {
    ("instanceName", if instance.is_empty() { "unnamed".into() } else { instance.to_owned().into() })
}

/// Publishes what a replica did.
pub(crate) fn done(bus: &Bus, event: SchedulerEvent<'_>) {
    // Which failure it was is in the log.
    let code = |failed: bool| failed.then_some(ErrorCode::Unavailable);
    match event {
        SchedulerEvent::Claimed { took, failed } => {
            timer(bus, "scheduler.assignment.duration.ms", took, code(failed), Vec::new());
        }
        SchedulerEvent::Synchronized { took, failed } => {
            timer(bus, "scheduler.synchronize.duration.ms", took, code(failed), Vec::new());
        }
        SchedulerEvent::Delivered { label, took } => {
            let tags = vec![("propertyLabel", label.to_owned().into())];
            send(bus, "scheduler.assignment-response.duration.ms", Value::Time(took), tags);
        }
        SchedulerEvent::Swept { kind, jobs, took } => {
            let (duration, count) = match kind {
                SweepKind::Prune => ("scheduler.prune.duration.ms", "scheduler.prune.count"),
                SweepKind::QueueTimeout => {
                    ("scheduler.queue_timeout.duration.ms", "scheduler.queue_timeout.count")
                }
                SweepKind::ExecutionTimeout => {
                    ("scheduler.execution_timeout.duration.ms", "scheduler.execution_timeout.count")
                }
            };
            send(bus, duration, Value::Time(took), Vec::new());
            if jobs > 0 {
                send(bus, count, Value::Count(jobs), Vec::new());
            }
        }
        SchedulerEvent::SecondBest { label, instance } => {
            let tags = vec![("propertyLabel", label.to_owned().into()), named(instance)];
            send(bus, "scheduler.preferred_match_miss.count", Value::Count(1), tags);
        }
        SchedulerEvent::Stage { pool, instance, stage, took } => job(bus, stage, pool, instance, took),
    }
}

/// Publishes figures that stand until others come: one that is no longer told is 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    told: Arc<Mutex<BTreeSet<(&'static str, Tags)>>>,
}

impl Gauges {
    /// Publishes what was counted.
    pub(crate) fn publish(&self, bus: &Bus, counts: &Counts) {
        let mut now = BTreeSet::new();
        let mut gauge = |name: &'static str, amount: u64, tags: Tags| {
            send(bus, name, Value::Gauge(float(amount)), tags.clone());
            now.insert((name, tags));
        };
        for (kind, jobs) in &counts.jobs {
            gauge("scheduler.jobs.count", jobs.queued, tags(kind, "QUEUED"));
            gauge("scheduler.jobs.count", jobs.executing, tags(kind, "EXECUTING"));
        }
        let kinds: BTreeSet<&Kind> = counts.bots.keys().map(|(kind, _)| kind).collect();
        for kind in kinds {
            for status in STATUSES {
                let bots = counts.bots.get(&(kind.clone(), status)).copied().unwrap_or_default();
                gauge("scheduler.bots.count", bots.bots, tags(kind, state(status)));
                gauge("scheduler.available_bot_capacity.count", bots.free, tags(kind, state(status)));
            }
        }
        for (instance, watchers) in &counts.watchers {
            gauge("connections.clients.count", *watchers, vec![named(instance)]);
        }
        for (instance, bots) in &counts.served {
            gauge("connections.workers.count", *bots, vec![named(instance)]);
        }
        counts.shares.iter().for_each(|share| cohort(share, &mut gauge));
        let before = std::mem::replace(&mut *self.told.lock(), now.clone());
        for (name, tags) in before.difference(&now) {
            send(bus, name, Value::Gauge(0.0), tags.clone());
        }
    }
}

fn tags(kind: &Kind, state: &'static str) -> Tags {
    vec![("state", state.into()), ("propertyLabel", kind.label.clone().into()), named(&kind.instance)]
}

const fn state(status: BotStatus) -> &'static str {
    match status {
        BotStatus::Ok => "OK",
        BotStatus::Unhealthy => "UNHEALTHY",
        BotStatus::HostRebooting => "HOST_REBOOTING",
        BotStatus::Terminating => "BOT_TERMINATING",
    }
}

fn cohort(of: &CohortShare, gauge: &mut impl FnMut(&'static str, u64, Tags)) {
    let quota = &of.share.quota;
    for (name, amount) in [
        ("scheduler.cohort.usage.count", of.share.used.into()),
        ("scheduler.cohort.min_quota.count", quota.min.into()),
        ("scheduler.cohort.max_quota.count", quota.max.into()),
        ("scheduler.cohort.available_max_capacity.count", of.bots.slots),
        ("scheduler.cohort.available_capacity.count", of.bots.free),
        ("scheduler.cohort.capacity_gap.count", of.gap()),
        ("scheduler.cohort.opportunistic_utilization.count", of.beyond()),
        ("scheduler.recent_evictions.gauge", of.share.evicted.into()),
    ] {
        gauge(name, amount, vec![named(&quota.instance), ("workerType", quota.cohort.clone().into())]);
    }
}
