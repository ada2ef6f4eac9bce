//! The status of a grid as a pure function of what was found, what was done, what was said before, and the time.

use std::collections::BTreeMap;

use grid_operator_api::{BuildGrid, BuildGridStatus, WAKE_ANNOTATION};
use grid_operator_apply::{Observed, Status, Wanted, merge};
use k8s_openapi::jiff::Timestamp;

use super::build::address;
use super::database;
use super::hibernation::{self, Sleep};
use super::observe::World;
use super::roles::{Role, serving};
use super::servers::Servers;
use super::validate::Grid;
use crate::foreign::POD_MONITOR;
use crate::names::Names;
use crate::rollouts::Turn;
use crate::trouble::Trouble;
use crate::workload::Progress;
use crate::workload::ailing::Ailment;

/// How far the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Migration {
    Running,
    Succeeded,
    Failed,
}

/// What a pass found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// What is wrong.
    pub(crate) trouble: Option<Trouble>,
    /// The migration's Job, and how far it is.
    pub(crate) migration: Option<(String, Migration)>,
    /// A storage that the grid refers to and that isn't ready.
    storage_waits: Option<String>,
    migration_logs: BTreeMap<String, String>,
    address: Option<String>,
    version: Option<String>,
    is_valid: bool,
    /// Whether the grid hibernates.
    pub(crate) sleep: Option<Sleep>,
    /// The kind of database that servers use.
    database: Option<&'static str>,
    authenticated: bool,
    /// What keeps pods from running.
    pub(crate) ailment: Option<Ailment>,
    /// Whether pods may be replaced for newer templates.
    pub(crate) turn: Option<Turn>,
    /// What no pool fits; unknown where Fleet can't be asked.
    pub(crate) unplaced: Option<Vec<String>>,
    /// Kinds that monitoring asks for and the cluster doesn't have.
    missing_kinds: Option<String>,
}

impl Report {
    pub(crate) fn new(grid: &BuildGrid, world: &World) -> Self {
        let storage_waits = world.storage.as_ref().and_then(|storage| {
            let ready = storage.status.iter().flat_map(|s| &s.conditions).find(|c| c.type_ == "Ready");
            match ready {
                Some(ready) if ready.status == "True" => None,
                Some(ready) => Some(ready.message.clone()),
                None => Some("it has not been looked at yet".to_owned()),
            }
        });
        Self {
            storage_waits,
            migration_logs: world.migration_logs.clone(),
            authenticated: grid.spec.authorization.is_some(),
            missing_kinds: grid.spec.monitoring.as_ref().and_then(|_| missing(world)),
            ..Self::default()
        }
    }

    /// The wish is valid.
    pub(crate) fn valid(&mut self, grid: &Grid<'_>) {
        let (host, tls) = address(grid);
        self.address = Some(format!("{}://{host}", if tls { "grpcs" } else { "grpc" }));
        self.is_valid = true;
        self.sleep = Some(grid.sleep.clone());
    }

    /// No pod is to run.
    fn is_asleep(&self) -> bool {
        self.sleep.as_ref().is_some_and(|sleep| sleep.has_begun)
    }

    /// Every pod is as the wish has it.
    pub(crate) fn rolled_out(&mut self, grid: &Grid<'_>) {
        self.version = Some(grid.version.clone());
        self.database = database::kind(grid.spec);
    }
}

fn missing(world: &World) -> Option<String> {
    let of_prometheus = world.missing_kinds.iter().filter(|kind| kind.group == POD_MONITOR.group);
    let names: Vec<&str> = of_prometheus.map(|kind| kind.kind).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// True where pods are waited for: a workload has fewer than it is to have, or a migration runs.
pub(crate) fn awaits_pods(grid: &BuildGrid, report: &Report, observed: &Observed) -> bool {
    matches!(report.migration, Some((_, Migration::Running))) || lacks_pods(grid, observed)
}

/// True where a workload has fewer pods than it is to have.
fn lacks_pods(grid: &BuildGrid, observed: &Observed) -> bool {
    let name = grid.metadata.name.as_deref().unwrap_or_default();
    Role::of(grid.spec.topology).iter().any(|role| {
        let progress = Progress::of(observed, &Names(name).component(role.component()));
        progress.wanted.is_some_and(|wanted| progress.available < wanted)
    })
}

/// True where a pod is there that serves Fleet.
pub(crate) fn is_served(grid: &Grid<'_>, observed: &Observed) -> bool {
    let role = serving(grid.spec.topology, Role::has_execution);
    Progress::of(observed, &grid.names().component(role.component())).available > 0
}

/// The grid with its new status.
pub(crate) fn with_status(
    grid: &BuildGrid,
    report: &Report,
    observed: &Observed,
    now: Timestamp,
) -> BuildGrid {
    let old = grid.status.clone().unwrap_or_default();
    let generation = grid.metadata.generation;
    let conditions = if grid.spec.paused {
        paused(grid, &old)
    } else {
        let servers = Servers::of(grid, observed);
        conditions(grid, report, &servers, &old)
    };
    let name = grid.metadata.name.as_deref().unwrap_or_default();
    let is_ours = database::kind(&grid.spec).is_some();
    let status = BuildGridStatus {
        observed_generation: generation,
        conditions: merge(&old.conditions, conditions, generation, now),
        address: report.address.clone().or(old.address),
        clients_config_map: report.is_valid.then(|| Names(name).clients()).or(old.clients_config_map),
        version: report.version.clone().or(old.version),
        database: report.database.map(str::to_owned).or(old.database).filter(|_| is_ours),
    };
    let mut updated = grid.clone();
    updated.status = Some(status);
    updated
}

/// Paused says so: conditions that somebody would have to look after meanwhile go. That the grid sleeps stands, for so it does
/// afterwards.
fn paused(grid: &BuildGrid, old: &BuildGridStatus) -> Vec<Wanted> {
    let message = "spec.paused is set: the grid is left as it is; set it to false to go on";
    let kept = old.conditions.iter().find(|c| c.type_ == "Ready");
    let ready = match kept {
        Some(ready) if ready.status == "True" => Wanted::new("Ready", true, "Paused", message),
        _ => Wanted::new("Ready", Status::Unknown, "Paused", message),
    };
    let sleeps = hibernation::still(old).filter(|_| grid.spec.hibernate);
    [ready, Wanted::new("Paused", true, "Asked", message)].into_iter().chain(sleeps).collect()
}

fn conditions(grid: &BuildGrid, report: &Report, servers: &Servers, old: &BuildGridStatus) -> Vec<Wanted> {
    let mut said = vec![
        dependencies(report),
        clients(report),
        progressing(report, servers),
        degraded(report, servers),
        ready(report, servers),
    ];
    said.extend(match &report.unplaced {
        Some(unplaced) => Some(unsatisfiable(unplaced)),
        // Nothing waits where nothing is run.
        None if report.is_asleep() || !grid.spec.execution.enabled => None,
        None => still_unsatisfiable(old),
    });
    said.extend(report.turn.as_ref().and_then(Turn::pending));
    said.extend(database::left_behind(grid, old));
    if grid.spec.hibernate {
        said.extend(report.sleep.as_ref().map(Sleep::condition).or_else(|| hibernation::still(old)));
    }
    if grid.spec.monitoring.is_some() {
        said.push(monitoring(report));
    }
    if grid.spec.database.is_some() {
        said.push(migration(report));
    }
    said
}

fn ready(report: &Report, servers: &Servers) -> Wanted {
    if let Some(trouble) = &report.trouble {
        return Wanted::new("Ready", false, trouble.reason, &trouble.message);
    }
    if report.is_asleep() {
        return Wanted::new(
            "Ready",
            false,
            "Hibernated",
            format!(
                "no pod runs: set spec.hibernate to false, or the annotation {WAKE_ANNOTATION} to a time in the future"
            ),
        );
    }
    match &report.migration {
        Some((job, Migration::Running)) if !servers.all_available() => {
            let message = format!("the servers wait for the Job {job}{}", hindrance(report));
            return Wanted::new("Ready", false, "Migrating", message);
        }
        Some((job, Migration::Failed)) if !servers.all_available() => {
            return Wanted::new("Ready", false, "MigrationFailed", failure(report, job));
        }
        _ => {}
    }
    match servers.missing.as_slice() {
        [] => Wanted::new("Ready", true, "Available", "every service is served"),
        missing => {
            let none = format!("no pod is ready of {}", missing.join(", "));
            match &report.ailment {
                Some(ailment) => {
                    Wanted::new("Ready", false, ailment.reason, format!("{none}: {}", ailment.message))
                }
                None => Wanted::new("Ready", false, "Unavailable", none),
            }
        }
    }
}

fn progressing(report: &Report, servers: &Servers) -> Wanted {
    if report.trouble.is_some() {
        return Wanted::new(
            "Progressing",
            false,
            "Stopped",
            "nothing goes on until the trouble is over: see Ready",
        );
    }
    match &report.migration {
        Some((job, Migration::Running)) => Wanted::new(
            "Progressing",
            true,
            "Migrating",
            format!("the Job {job} brings the database up to date"),
        ),
        Some((job, Migration::Failed)) => Wanted::new(
            "Progressing",
            false,
            "MigrationFailed",
            format!("the rollout waits for the Job {job}"),
        ),
        _ if servers.unsettled.is_empty() => {
            Wanted::new("Progressing", false, "RolledOut", "nothing is left to do")
        }
        _ => {
            let servers = servers.unsettled.join(", ");
            Wanted::new(
                "Progressing",
                true,
                "RollingOut",
                format!("pods are being replaced or started: {servers}"),
            )
        }
    }
}

fn degraded(report: &Report, servers: &Servers) -> Wanted {
    if let Some(trouble) = &report.trouble {
        return Wanted::new("Degraded", true, trouble.reason, &trouble.message);
    }
    if let Some((job, Migration::Failed)) = &report.migration {
        return Wanted::new("Degraded", true, "MigrationFailed", failure(report, job));
    }
    if let Some(why) = servers.refused.first() {
        return Wanted::new("Degraded", true, "PodsRefused", why);
    }
    if let Some(ailment) = &report.ailment {
        return Wanted::new("Degraded", true, ailment.reason, &ailment.message);
    }
    match servers.short.as_slice() {
        [] => Wanted::new("Degraded", false, "AsWanted", "every pod that is wanted is there or on its way"),
        short => Wanted::new(
            "Degraded",
            true,
            "PodsMissing",
            format!("not every pod is available: {}", short.join(", ")),
        ),
    }
}

fn dependencies(report: &Report) -> Wanted {
    match (&report.trouble, &report.storage_waits) {
        (Some(trouble), _) if trouble.is_dependency() => {
            Wanted::new("DependenciesReady", false, trouble.reason, &trouble.message)
        }
        (_, Some(waits)) => Wanted::new(
            "DependenciesReady",
            false,
            "StorageNotReady",
            format!("the CasStorage isn't ready: {waits}"),
        ),
        _ => Wanted::new("DependenciesReady", true, "Found", "everything that the grid refers to is there"),
    }
}

fn clients(report: &Report) -> Wanted {
    if report.authenticated {
        return Wanted::new(
            "ClientsAuthenticated",
            true,
            "Asked",
            "callers have to be known: see spec.authorization",
        );
    }
    Wanted::new(
        "ClientsAuthenticated",
        false,
        "Open",
        "whoever reaches the grid may build on it and write to its caches: let only trusted networks reach it, or set spec.authorization",
    )
}

fn unsatisfiable(unplaced: &[String]) -> Wanted {
    match unplaced {
        [] => Wanted::new("UnsatisfiableActions", false, "Placed", "every action that waits fits a pool"),
        several => Wanted::new(
            "UnsatisfiableActions",
            true,
            "NoPoolFits",
            format!("{}: add a pool that offers it, or correct the build's platform", several.join("; ")),
        ),
    }
}

/// What was known last, while the grid can't be asked: an operator that starts anew has nothing else to say.
fn still_unsatisfiable(old: &BuildGridStatus) -> Option<Wanted> {
    let last = old.conditions.iter().find(|condition| condition.type_ == "UnsatisfiableActions")?;
    let reason = if last.status == "True" { "NoPoolFits" } else { "Placed" };
    Some(Wanted::new("UnsatisfiableActions", last.status == "True", reason, &last.message))
}

fn monitoring(report: &Report) -> Wanted {
    match &report.missing_kinds {
        None => Wanted::new(
            "MonitoringReady",
            true,
            "Made",
            "metrics, alerts and dashboard are as spec.monitoring says",
        ),
        Some(kinds) => Wanted::new(
            "MonitoringReady",
            false,
            "KindNotFound",
            format!(
                "the cluster doesn't have {kinds}: install the Prometheus operator's CRDs, or take spec.monitoring away"
            ),
        ),
    }
}

fn migration(report: &Report) -> Wanted {
    match &report.migration {
        Some((job, Migration::Succeeded)) => Wanted::new(
            "MigrationSucceeded",
            true,
            "Migrated",
            format!("the Job {job} brought the database up to date"),
        ),
        Some((job, Migration::Running)) => {
            let message = format!("the Job {job} is running{}", hindrance(report));
            Wanted::new("MigrationSucceeded", Status::Unknown, "Running", message)
        }
        Some((job, Migration::Failed)) => {
            Wanted::new("MigrationSucceeded", false, "MigrationFailed", failure(report, job))
        }
        None => {
            Wanted::new("MigrationSucceeded", Status::Unknown, "Waiting", "it begins once the grid is valid")
        }
    }
}

/// What keeps pods from running, as an addition.
fn hindrance(report: &Report) -> String {
    report.ailment.as_ref().map(|ailment| format!("; {}", ailment.message)).unwrap_or_default()
}

fn failure(report: &Report, job: &str) -> String {
    let log = report.migration_logs.get(job).map_or("its log could not be read", String::as_str);
    format!(
        "the Job {job} failed, and the old pods go on: remove the cause, then `kubectl delete job {job}` to try again. It said: {log}"
    )
}
