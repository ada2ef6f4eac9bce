//! The order in which a grid's objects are applied, and what each step waits for.
//!
//! Foundation (accounts, secrets, configuration, Services, ingress) first; then the migration, which every
//! workload waits for: while it runs or after it failed, the old pods go on as they are. Then the workloads, one after
//! the other; where only this operator's templates are newer, not before it is the grid's turn. What is no longer wanted
//! is removed last, once all that is wanted has been rolled out.

use grid_operator_apply::{Applied, Desired, Kind, Observed};
use k8s_openapi::api::batch::v1::Job;
use serde::Serialize;

use super::build::Objects;
use super::status::{Migration, Report};
use super::validate::{Grid, Storage};
use crate::context::Context;
use crate::error::Result;
use crate::jobs::{has_completed, has_failed};
use crate::workload::revision::{self, Draft, Stage};
use crate::workload::{growth, overlay};

/// Objects in the order of their application.
struct Phases {
    foundation: Vec<Desired>,
    migration: Option<Desired>,
    workloads: Vec<Draft>,
    budgets: Vec<Desired>,
}

/// Applies a grid's objects, as far as its migration allows.
pub(crate) async fn roll_out(
    objects: Objects,
    grid: &Grid<'_>,
    context: &Context,
    report: &mut Report,
    applied: &mut Applied,
) -> Result<()> {
    let (uid, namespace) = (&grid.owner.uid, &grid.owner.namespace);
    let mut phases = phases(objects, grid)?;
    if grid.sleep.has_begun {
        // It runs no pods, that of a migration neither: it migrates when it wakes.
        phases.migration = None;
    }
    context.applier.apply(uid, namespace, &phases.foundation, applied).await?;
    if let Some(job) = &phases.migration {
        // A Job can't be changed: one that exists is the one that is wanted, for its name says what it does.
        if applied.observed.get(job.kind(), job.name()).is_none() {
            context.applier.apply(uid, namespace, std::slice::from_ref(job), applied).await?;
        }
        let state = migration_state(&applied.observed, job.name());
        report.migration = Some((job.name().to_owned(), state));
        if state != Migration::Succeeded {
            return Ok(());
        }
    }
    if !grow_volume(grid, context, applied).await? {
        return Ok(());
    }
    let stage = Stage { revision: &grid.revision, wish: &grid.wish };
    let maintenance = grid.spec.maintenance.as_ref();
    let turn =
        revision::turn(&phases.workloads, &applied.observed, &stage, &grid.owner, maintenance, context);
    let (is_done, workloads) =
        revision::apply_in_order(&phases.workloads, &stage, &turn, &grid.owner, context, applied).await?;
    report.turn = Some(turn);
    context.applier.apply(uid, namespace, &phases.budgets, applied).await?;
    if !is_done {
        return Ok(());
    }
    report.rolled_out(grid);
    let wanted: Vec<Desired> = phases
        .foundation
        .into_iter()
        .chain(phases.migration)
        .chain(workloads)
        .chain(phases.budgets)
        .collect();
    context.applier.remove_orphans(uid, namespace, &wanted, |_, _| false, applied).await?;
    Ok(())
}

/// Lets the claim of the one pod with a volume grow, where the spec asks for a larger one; false while that goes on.
async fn grow_volume(grid: &Grid<'_>, context: &Context, applied: &mut Applied) -> Result<bool> {
    let (Some(role), Storage::Embedded(embedded)) = (grid.volume_role(), &grid.storage) else {
        return Ok(true);
    };
    growth::grow(context, &grid.owner, role.component(), &embedded.volume.size, applied).await
}

/// Every object goes into its phase; one that is forgotten doesn't compile.
fn phases(objects: Objects, grid: &Grid<'_>) -> Result<Phases> {
    let Objects {
        service_account,
        secrets,
        config_maps,
        services,
        ingress,
        network_policies,
        foreign,
        migration,
        deployments,
        stateful_sets,
        budgets,
    } = objects;
    let mut foundation = vec![Desired::new(&service_account)?];
    for secret in &secrets {
        foundation.push(Desired::new(secret)?);
    }
    for config_map in &config_maps {
        foundation.push(Desired::new(config_map)?);
    }
    for service in &services {
        foundation.push(Desired::new(service)?);
    }
    if let Some(ingress) = &ingress {
        foundation.push(Desired::new(ingress)?);
    }
    for policy in &network_policies {
        foundation.push(Desired::new(policy)?);
    }
    for object in &foreign {
        foundation.push(object.desired()?);
    }
    let mut workloads = vec![];
    for deployment in &deployments {
        workloads.push(workload(deployment, grid)?);
    }
    for stateful_set in &stateful_sets {
        workloads.push(workload(stateful_set, grid)?);
    }
    let migration = migration.map(|job| Desired::new(&job)).transpose()?;
    let budgets = budgets.iter().map(Desired::new).collect::<std::result::Result<_, _>>()?;
    Ok(Phases { foundation, migration, workloads, budgets })
}

fn workload<K: k8s_openapi::Resource + Serialize>(object: &K, grid: &Grid<'_>) -> Result<Draft> {
    let value = overlay(serde_json::to_value(object)?, grid.spec.pod_template.as_ref());
    Ok(Draft { kind: Kind::of::<K>(), value })
}

fn migration_state(observed: &Observed, name: &str) -> Migration {
    match observed.typed::<Job>(name) {
        Some(job) if has_completed(&job) => Migration::Succeeded,
        Some(job) if has_failed(&job) => Migration::Failed,
        _ => Migration::Running,
    }
}
