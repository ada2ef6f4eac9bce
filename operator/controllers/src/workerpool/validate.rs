//! The wish for a pool, checked against the world: what `build` takes.

use grid_operator_api::{Runtime, SecretKeyRef, WorkerPool, WorkerPoolSpec};
use grid_operator_apply::content_hash;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::build::WORKER;
use super::observe::{World, certificate, named_keys};
use crate::buildgrid::{SHOWN_TOKEN, bots_url, cas_url, effective_version, is_asleep};
use crate::context::Context;
use crate::fleet::Key;
use crate::mutual_tls::client_secret;
use crate::names::{Names, Owner, Wire};
use crate::trouble::Trouble;

/// A pool that can be built.
#[derive(Clone, Debug)]
pub(crate) struct Pool<'a> {
    pub(crate) owner: Owner,
    pub(crate) spec: &'a WorkerPoolSpec,
    pub(crate) version: String,
    /// The version of its grid, where another pool takes it first.
    pub(crate) held_version: Option<String>,
    /// Revision of the templates.
    pub(crate) revision: String,
    /// Hash of what is asked for.
    pub(crate) wish: String,
    /// The grid as others name it; empty where it is elsewhere.
    pub(crate) grid: String,
    /// Image with grid-worker and grid-runner.
    pub(crate) image: String,
    pub(crate) bots: String,
    pub(crate) cas: String,
    pub(crate) token: Option<SecretKeyRef>,
    pub(crate) authority: Option<SecretKeyRef>,
    /// Secret with what the workers show.
    pub(crate) certificate: Option<String>,
    /// How its grid is spoken to.
    pub(crate) wire: Wire,
    pub(crate) cache_bytes: u64,
    /// Why the grid doesn't answer yet, if it doesn't.
    pub(crate) grid_waits: Option<String>,
    /// The grid hibernates: no pod is to run.
    pub(crate) asleep: bool,
    /// NetworkPolicies are wanted.
    pub(crate) guarded: bool,
    /// Pods that are wanted; nothing where someone else decides.
    pub(crate) replicas: Option<i32>,
}

/// Checks the wish.
///
/// # Errors
/// The first thing that is wrong, with its remedy.
pub(crate) fn validate<'a>(
    pool: &'a WorkerPool,
    world: &World,
    context: &Context,
) -> Result<Pool<'a>, Trouble> {
    let (spec, images, now) = (&pool.spec, &context.images, context.mint.now());
    let Some(cache_bytes) = spec.cache.size.bytes() else {
        return Err(Trouble::new(
            "Invalid",
            format!("spec.cache.size: {} does not fit into 64 bits", spec.cache.size.0),
        ));
    };
    check_limits(spec)?;
    for reference in named_keys(pool) {
        check_key(&reference, world)?;
    }
    let end = match (&spec.grid_ref.name, &spec.grid_ref.address) {
        (Some(name), _) => named(pool, name, world, now)?,
        (None, Some(address)) => End {
            bots: address.clone(),
            cas: spec.grid_ref.cas_address.clone().unwrap_or_else(|| address.clone()),
            token: spec.grid_ref.credentials.as_ref().map(|c| c.token_secret_ref.clone()),
            authority: spec.grid_ref.tls.as_ref().map(|t| t.ca_secret_ref.clone()),
            certificate: certificate(spec).map(str::to_owned),
            wire: Wire::Plain,
            version: None,
            waits: None,
            asleep: false,
            guarded: true,
        },
        (None, None) => return Err(Trouble::new("Invalid", "spec.gridRef has neither name nor address")),
    };
    let owner = Owner::new(pool, "WorkerPool");
    let grid = Key::new(&owner.namespace, spec.grid_ref.name.as_deref().unwrap_or_default()).path();
    let running = effective_version(None, &world.owned, images);
    let asked = spec.version.as_deref().or(end.version.as_deref());
    let version = effective_version(asked, &world.owned, images);
    let follows = spec.version.is_none() && end.version.is_some() && version != running;
    let exists = world.owned.typed::<Deployment>(&Names(&owner.name).component(WORKER)).is_some();
    let is_held = follows && exists && !context.rollouts.pool_may_follow(&grid, &owner.uid, now);
    let (version, held_version) = if is_held { (running, Some(version)) } else { (version, None) };
    Ok(Pool {
        spec,
        image: images.of("grid-worker", &version),
        revision: images.revision.clone(),
        wish: wish(spec, &version, &end),
        grid,
        held_version,
        owner,
        version,
        bots: end.bots,
        cas: end.cas,
        token: end.token,
        authority: end.authority,
        certificate: end.certificate,
        wire: end.wire,
        cache_bytes,
        grid_waits: end.waits,
        asleep: end.asleep,
        guarded: end.guarded,
        replicas: if end.asleep { Some(0) } else { spec.replicas },
    })
}

/// A hash of everything that replaces pods where it changes. How many there are is no part of it.
fn wish(spec: &WorkerPoolSpec, version: &str, end: &End) -> String {
    let asked =
        WorkerPoolSpec { replicas: None, autoscaling: None, priority: 0, paused: false, ..spec.clone() };
    content_hash(&json!([asked, version, end.bots, end.cas, end.token, end.authority]))
}

/// The other end of a pool's connections.
struct End {
    bots: String,
    cas: String,
    token: Option<SecretKeyRef>,
    authority: Option<SecretKeyRef>,
    certificate: Option<String>,
    wire: Wire,
    version: Option<String>,
    waits: Option<String>,
    asleep: bool,
    guarded: bool,
}

fn named(pool: &WorkerPool, name: &str, world: &World, now: Timestamp) -> Result<End, Trouble> {
    let Some(grid) = &world.grid else {
        return Err(Trouble::missing(
            "BuildGrid",
            name,
            "spec.gridRef",
            "create it in this namespace, or give the address of a grid elsewhere",
        ));
    };
    if !grid.spec.execution.enabled {
        return Err(Trouble::new(
            "NoExecution",
            format!(
                "the BuildGrid {name} is a cache only (spec.execution.enabled is false): it has no work for a pool"
            ),
        ));
    }
    // The instances of a grid with a configuration of its own stand there.
    if grid.spec.config_from.is_none() && !grid.spec.instances.contains(&pool.spec.instance_name) {
        let known: Vec<String> = grid.spec.instances.iter().map(|i| format!("{i:?}")).collect();
        return Err(Trouble::new(
            "UnknownInstance",
            format!(
                "spec.instanceName is {:?}, and the BuildGrid {name} has: {}",
                pool.spec.instance_name,
                known.join(", ")
            ),
        ));
    }
    let token_key = match pool.spec.runtime {
        Runtime::Grid => "worker-token",
        Runtime::Buildbox => SHOWN_TOKEN,
    };
    let client = grid.spec.mutual_tls.as_ref().map(|wish| client_secret(name, wish));
    let namespace = pool.namespace().unwrap_or_default();
    let status = grid.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
    let waits = match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(ready.message.clone()),
        None => Some("it has not been looked at yet".to_owned()),
    };
    Ok(End {
        bots: bots_url(name, &namespace, &grid.spec),
        cas: cas_url(name, &namespace, &grid.spec),
        token: Some(SecretKeyRef { name: Names(name).credentials(), key: token_key.to_owned() }),
        authority: client.clone().map(|name| SecretKeyRef { name, key: "ca.crt".to_owned() }),
        certificate: client,
        wire: Wire::of(grid.spec.mutual_tls.as_ref()),
        version: status.version.or_else(|| grid.spec.version.clone()),
        waits,
        asleep: is_asleep(grid, now)?,
        guarded: grid.spec.network_policy.enabled,
    })
}

/// Fails for a limit that no number holds.
fn check_limits(spec: &WorkerPoolSpec) -> Result<(), Trouble> {
    let Some(limits) = &spec.limits else { return Ok(()) };
    let sizes = [
        ("memory", &limits.memory),
        ("fileSize", &limits.file_size),
        ("disk", &limits.disk),
        ("log", &limits.log),
    ];
    for (field, size) in sizes {
        if let Some(size) = size.as_ref().filter(|size| size.bytes().is_none()) {
            let message = format!("spec.limits.{field}: {} does not fit into 64 bits", size.0);
            return Err(Trouble::new("Invalid", message));
        }
    }
    Ok(())
}

fn check_key(reference: &SecretKeyRef, world: &World) -> Result<(), Trouble> {
    let Some(secret) = world.secrets.get(&reference.name) else {
        return Err(Trouble::missing(
            "Secret",
            &reference.name,
            "spec.gridRef",
            "create it in this namespace",
        ));
    };
    if secret.data.as_ref().is_some_and(|data| data.contains_key(&reference.key)) {
        return Ok(());
    }
    let keys: Vec<&str> = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
    Err(Trouble::new(
        "KeyNotFound",
        format!(
            "spec.gridRef names the key {} of the Secret {}, which has: {}",
            reference.key,
            reference.name,
            keys.join(", ")
        ),
    ))
}
