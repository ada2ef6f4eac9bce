//! The status of a pool as a pure function of what was found, what was done, what was said before, and the time.

use grid_operator_api::{WorkerPool, WorkerPoolStatus};
use grid_operator_apply::{Observed, Status, Wanted, merge};
use k8s_openapi::jiff::Timestamp;

use super::autoscale::{Limited, Scaled};
use super::build::WORKER;
use super::upkeep::Tended;
use crate::names::{Names, Owner};
use crate::rollouts::{ROLLOUT_PENDING, Turn};
use crate::trouble::Trouble;
use crate::workload::Progress;

/// What a pass found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) trouble: Option<Trouble>,
    /// Why the grid doesn't answer yet.
    pub(crate) waits: Option<String>,
    pub(crate) version: Option<String>,
    /// The grid hibernates.
    pub(crate) asleep: bool,
    /// What autoscaling came to.
    pub(crate) scaled: Option<Scaled>,
    /// Whether pods may be replaced for newer templates.
    pub(crate) turn: Option<Turn>,
    /// The version of the grid that it takes once another pool has.
    pub(crate) held_version: Option<String>,
    /// What its pods need.
    pub(crate) tended: Tended,
}

/// The pool with its new status.
pub(crate) fn with_status(
    pool: &WorkerPool,
    report: &Report,
    observed: &Observed,
    now: Timestamp,
) -> WorkerPool {
    let old = pool.status.clone().unwrap_or_default();
    let generation = pool.metadata.generation;
    let name = Names(pool.metadata.name.as_deref().unwrap_or_default()).component(WORKER);
    let progress = Progress::of(observed, &name);
    let said = if pool.spec.paused { paused(&old) } else { conditions(pool, report, &progress) };
    let status = WorkerPoolStatus {
        observed_generation: generation,
        conditions: merge(&old.conditions, said, generation, now),
        replicas: progress.replicas.saturating_add(report.tended.ending),
        desired_replicas: progress.wanted,
        ready_replicas: progress.available,
        selector: Some(Owner::new(pool, "WorkerPool").pod_selector(WORKER)),
        version: report.version.clone().or(old.version),
    };
    let mut updated = pool.clone();
    updated.status = Some(status);
    updated
}

fn paused(old: &WorkerPoolStatus) -> Vec<Wanted> {
    let message = "spec.paused is set: the pool is left as it is; set it to false to go on";
    let was_ready = old.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let status = if was_ready { Status::True } else { Status::Unknown };
    vec![Wanted::new("Ready", status, "Paused", message), Wanted::new("Paused", true, "Asked", message)]
}

fn conditions(pool: &WorkerPool, report: &Report, progress: &Progress) -> Vec<Wanted> {
    let mut said = vec![
        ready(pool, report, progress),
        progressing(report, progress),
        degraded(report, progress),
        dependencies(report),
    ];
    said.extend(report.scaled.map(scaling));
    said.extend(draining(&report.tended));
    said.extend(match &report.held_version {
        Some(version) => {
            let message =
                format!("it takes version {version} when the pool that is taking it now came to rest");
            Some(Wanted::new(ROLLOUT_PENDING, true, "OneAfterTheOther", message))
        }
        None => report.turn.as_ref().and_then(Turn::pending),
    });
    said
}

fn draining(tended: &Tended) -> Option<Wanted> {
    if tended.leaving.is_empty() {
        return None;
    }
    let nodes: Vec<&str> = tended.leaving.iter().map(String::as_str).collect();
    let message = format!(
        "the nodes {} take no more pods: workers there finish what they run and are replaced elsewhere",
        nodes.join(", ")
    );
    Some(Wanted::new("Draining", true, "NodesLeaving", message))
}

fn scaling(scaled: Scaled) -> Wanted {
    match scaled.limited {
        None => Wanted::new(
            "ScalingLimited",
            Status::Unknown,
            "DemandUnknown",
            "the grid's Fleet service can't be reached: the pool stays as large as it is",
        ),
        Some(Limited::ByBudget) => Wanted::new(
            "ScalingLimited",
            true,
            "AtBudget",
            "more workers are needed than spec.workerBudget of the grid leaves to this pool: those of higher priority come first",
        ),
        Some(Limited::ByMaximum) => Wanted::new(
            "ScalingLimited",
            true,
            "AtMaximum",
            "more workers are needed than spec.autoscaling.maxReplicas allows: actions wait for each other",
        ),
        Some(Limited::Not) => Wanted::new("ScalingLimited", false, "Within", "the pool follows the demand"),
    }
}

fn ready(pool: &WorkerPool, report: &Report, progress: &Progress) -> Wanted {
    if let Some(trouble) = &report.trouble {
        return Wanted::new("Ready", false, trouble.reason, &trouble.message);
    }
    if report.asleep {
        return Wanted::new(
            "Ready",
            false,
            "Hibernated",
            "its grid hibernates: spec.hibernate of the grid wakes both",
        );
    }
    match pool.spec.replicas {
        Some(0) => Wanted::new("Ready", true, "ScaledToZero", "spec.replicas is 0"),
        None if progress.wanted == Some(0) => {
            Wanted::new("Ready", true, "ScaledToZero", "no action waits for this pool")
        }
        _ if progress.available > 0 => Wanted::new("Ready", true, "Available", "workers take actions"),
        _ => {
            if let Some(ailment) = &report.tended.ailment {
                return Wanted::new("Ready", false, ailment.reason, &ailment.message);
            }
            let why = report.waits.as_ref().map(|w| format!(" (the grid: {w})")).unwrap_or_default();
            Wanted::new("Ready", false, "NoWorkers", format!("no worker takes actions yet{why}"))
        }
    }
}

fn progressing(report: &Report, progress: &Progress) -> Wanted {
    if report.trouble.is_some() {
        Wanted::new("Progressing", false, "Stopped", "nothing goes on until the trouble is over: see Ready")
    } else if progress.settled {
        Wanted::new("Progressing", false, "RolledOut", "nothing is left to do")
    } else {
        Wanted::new("Progressing", true, "RollingOut", "pods are being replaced, started or drained")
    }
}

fn degraded(report: &Report, progress: &Progress) -> Wanted {
    let (reason, message) = if let Some(trouble) = &report.trouble {
        (trouble.reason, trouble.message.as_str())
    } else if let Some(failure) = &progress.failure {
        ("PodsRefused", failure.as_str())
    } else if let Some(ailment) = &report.tended.ailment {
        (ailment.reason, ailment.message.as_str())
    } else if progress.short {
        ("PodsMissing", "not every worker takes actions")
    } else {
        let message = "every pod that is wanted is there or on its way";
        return Wanted::new("Degraded", false, "AsWanted", message);
    };
    Wanted::new("Degraded", true, reason, message)
}

fn dependencies(report: &Report) -> Wanted {
    match (&report.trouble, &report.waits) {
        (Some(trouble), _) if trouble.is_dependency() => {
            Wanted::new("DependenciesReady", false, trouble.reason, &trouble.message)
        }
        (_, Some(waits)) => {
            Wanted::new("DependenciesReady", false, "GridNotReady", format!("the grid isn't ready: {waits}"))
        }
        _ => Wanted::new("DependenciesReady", true, "Found", "everything that the pool refers to is there"),
    }
}
