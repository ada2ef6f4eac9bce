//! The status of a tier as a pure function of what was found, what was done, what was said before, and the time.

use grid_operator_api::{CasStorage, CasStorageStatus};
use grid_operator_apply::{Observed, Status, Wanted, merge};
use k8s_openapi::jiff::Timestamp;

use super::access::{Access, SERVER};
use super::expiry;
use super::observe::World;
use crate::names::Names;
use crate::rollouts::Turn;
use crate::trouble::Trouble;
use crate::workload::Progress;
use crate::workload::ailing::Ailment;

/// What a pass found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) trouble: Option<Trouble>,
    /// What keeps pods from running.
    pub(crate) ailment: Option<Ailment>,
    /// Whether pods may be replaced for newer templates.
    pub(crate) turn: Option<Turn>,
    used_by: Vec<String>,
    cleaned: Option<expiry::Run>,
    access: Option<String>,
    replicas: i32,
    version: Option<String>,
}

impl Report {
    pub(crate) fn new(world: &World) -> Self {
        Self { used_by: world.used_by.clone(), cleaned: world.cleaned.clone(), ..Self::default() }
    }

    /// The wish is valid.
    pub(crate) fn valid(&mut self, access: &Access, version: &str) {
        self.access = Some(if access.is_direct() { "direct" } else { "remote" }.to_owned());
        self.replicas = access.replicas();
        self.version = Some(version.to_owned());
    }
}

/// True where there are fewer pods than there are to be.
pub(crate) fn lacks_pods(storage: &CasStorage, observed: &Observed) -> bool {
    let name = Names(storage.metadata.name.as_deref().unwrap_or_default()).component(SERVER);
    let progress = Progress::of(observed, &name);
    progress.wanted.is_some_and(|wanted| progress.available < wanted)
}

/// The tier with its new status.
pub(crate) fn with_status(
    storage: &CasStorage,
    report: &Report,
    observed: &Observed,
    now: Timestamp,
) -> CasStorage {
    let old = storage.status.clone().unwrap_or_default();
    let generation = storage.metadata.generation;
    let name = Names(storage.metadata.name.as_deref().unwrap_or_default()).component(SERVER);
    let progress = Progress::of(observed, &name);
    let said = if storage.spec.paused { paused(&old) } else { conditions(storage, report, &progress, &name) };
    let status = CasStorageStatus {
        observed_generation: generation,
        conditions: merge(&old.conditions, said, generation, now),
        access: report.access.clone().or(old.access),
        ready_replicas: Some(progress.available),
        used_by: report.used_by.clone(),
        cleanup: report.cleaned.as_ref().map(|run| run.result.clone()),
        version: report.version.clone().or(old.version),
    };
    let mut updated = storage.clone();
    updated.status = Some(status);
    updated
}

fn paused(old: &CasStorageStatus) -> Vec<Wanted> {
    let message = "spec.paused is set: the tier is left as it is; set it to false to go on";
    let was_ready = old.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let status = if was_ready { Status::True } else { Status::Unknown };
    vec![Wanted::new("Ready", status, "Paused", message), Wanted::new("Paused", true, "Asked", message)]
}

fn conditions(storage: &CasStorage, report: &Report, progress: &Progress, name: &str) -> Vec<Wanted> {
    let dependencies = match &report.trouble {
        Some(t) if t.is_dependency() => Wanted::new("DependenciesReady", false, t.reason, &t.message),
        _ => Wanted::new("DependenciesReady", true, "Found", "everything that the tier refers to is there"),
    };
    if let Some(trouble) = &report.trouble {
        return vec![
            Wanted::new("Ready", false, trouble.reason, &trouble.message),
            Wanted::new("Degraded", true, trouble.reason, &trouble.message),
            Wanted::new(
                "Progressing",
                false,
                "Stopped",
                "nothing goes on until the trouble is over: see Ready",
            ),
            dependencies,
        ];
    }
    let mut said = vec![
        ready(storage, report, progress, name),
        progressing(storage, report, progress, name),
        degraded(storage, report, progress, name),
        dependencies,
    ];
    said.extend(report.cleaned.as_ref().map(expiry::condition));
    said.extend(report.turn.as_ref().and_then(Turn::pending));
    said
}

fn serves(storage: &CasStorage, report: &Report) -> bool {
    report.replicas > 0 && !storage.spec.hibernate
}

fn ready(storage: &CasStorage, report: &Report, progress: &Progress, name: &str) -> Wanted {
    if storage.spec.hibernate {
        let message = "no pod runs and nothing is expired: set spec.hibernate to false";
        return Wanted::new("Ready", false, "Hibernated", message);
    }
    if !serves(storage, report) {
        let message = "grids open its storages themselves; it has no servers of its own";
        return Wanted::new("Ready", true, "Direct", message);
    }
    if progress.available >= report.replicas {
        return Wanted::new("Ready", true, "Available", "every server is there");
    }
    let is_shared = report.access.as_deref() == Some("direct");
    if progress.available > 0 && is_shared {
        let message = format!("{} of {} servers are there", progress.available, report.replicas);
        return Wanted::new("Ready", true, "Available", message);
    }
    let message = format!("{} of {} pods of {name} are ready", progress.available, report.replicas);
    match &report.ailment {
        Some(ailment) => {
            Wanted::new("Ready", false, ailment.reason, format!("{message}: {}", ailment.message))
        }
        None => Wanted::new("Ready", false, "Unavailable", message),
    }
}

fn progressing(storage: &CasStorage, report: &Report, progress: &Progress, name: &str) -> Wanted {
    if serves(storage, report) && !progress.settled {
        let message = format!("pods of {name} are being replaced or started");
        Wanted::new("Progressing", true, "RollingOut", message)
    } else {
        Wanted::new("Progressing", false, "RolledOut", "nothing is left to do")
    }
}

fn degraded(storage: &CasStorage, report: &Report, progress: &Progress, name: &str) -> Wanted {
    if let Some(why) = &progress.failure {
        Wanted::new("Degraded", true, "PodsRefused", why)
    } else if let Some(ailment) = &report.ailment {
        Wanted::new("Degraded", true, ailment.reason, &ailment.message)
    } else if serves(storage, report) && progress.short {
        Wanted::new("Degraded", true, "PodsMissing", format!("not every pod of {name} is available"))
    } else {
        Wanted::new("Degraded", false, "AsWanted", "every pod that is wanted is there or on its way")
    }
}
