//! The wish for a grid, checked against the world: what `build` takes, and what can't be wrong any more.

mod certificate;

use grid_operator_api::{
    BuildGrid, BuildGridSpec, CasStorage, ConfigMapKeyRef, DatabaseSpec, EmbeddedStorage, IssuerRef,
    ROTATE_ANNOTATION, SecretKeyRef, Span, VolumeSpec,
};
use grid_operator_apply::{Observed, content_hash};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::authorization::{self, Authorization};
use super::hibernation::Sleep;
use super::observe::World;
use super::raw::{self, Raw};
use super::roles::Role;
use crate::casstorage::Access;
use crate::context::Images;
use crate::fleet::Key;
use crate::foreign::{CERTIFICATE, GRPC_ROUTE};
use crate::mutual_tls::{self, MutualTls};
use crate::names::{Names, Owner, VERSION_ANNOTATION, Wire};
use crate::references::{config_text, secret_bytes, secret_text};
use crate::server_config::connections::Mounted;
use crate::trouble::Trouble;
use crate::workload::revision::{kept_secrets, noted};
use crate::workload::{Ports, check_unchanged, claimed};

/// A grid that can be built.
#[derive(Clone, Debug)]
pub(crate) struct Grid<'a> {
    pub(crate) owner: Owner,
    pub(crate) spec: &'a BuildGridSpec,
    pub(crate) version: String,
    /// Revision of the templates.
    pub(crate) revision: String,
    /// Hash of what is asked for.
    pub(crate) wish: String,
    pub(crate) image: String,
    pub(crate) storage: Storage,
    /// The volume for SQLite where the blobs are in a CasStorage.
    pub(crate) queue_volume: VolumeSpec,
    pub(crate) database: Option<Database>,
    pub(crate) tls: Option<Tls>,
    /// The rotation of tokens that is asked for, in the user's own words.
    pub(crate) rotation: Option<String>,
    /// How the parts know each other.
    pub(crate) mutual_tls: Option<MutualTls>,
    pub(crate) authorization: Option<Authorization<'a>>,
    /// The user's own configuration.
    pub(crate) raw: Option<Raw>,
    /// Whether it hibernates.
    pub(crate) sleep: Sleep,
    /// Hash of the secrets that servers read at start.
    pub(crate) secrets_hash: Option<String>,
    pub(crate) max_execution_seconds: u64,
}

/// Where the blobs are.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// On the volume of one of the grid's own pods.
    Embedded(EmbeddedStorage),
    /// In a CasStorage.
    Shared(Box<Access>),
}

/// A database that exists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Database {
    pub(crate) secret: SecretKeyRef,
    /// Hash of the URI: a change of it has to reach the servers.
    pub(crate) hash: String,
    /// Who signed its certificate; connections read it anew.
    pub(crate) authority: Option<SecretKeyRef>,
}

/// How the ingress gets its certificate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tls {
    /// Not at all: plain text.
    Disabled,
    /// From the user's Secret, whose CA is told to clients where it names one.
    Given { secret: String, authority: Option<String> },
    /// From cert-manager, which writes the Secret `<grid>-tls`; its CA, once that is there.
    CertManager { issuer: IssuerRef, authority: Option<String> },
    /// From the operator; good for so many seconds.
    SelfSigned { seconds: u64 },
}

impl Grid<'_> {
    pub(crate) fn names(&self) -> Names<'_> {
        Names(&self.owner.name)
    }

    /// How its parts speak to each other.
    pub(crate) fn wire(&self) -> Wire {
        Wire::of(self.spec.mutual_tls.as_ref())
    }

    /// The grid as others name it.
    pub(crate) fn key(&self) -> Key {
        Key::new(&self.owner.namespace, &self.owner.name)
    }

    /// Names of its instances.
    pub(crate) fn instances(&self) -> &[String] {
        self.raw.as_ref().map_or(&self.spec.instances, |raw| &raw.instances)
    }

    /// What a role's servers listen on. Bots has no client but parts of the grid.
    pub(crate) fn ports(&self, role: Role) -> Ports {
        match self.wire() {
            Wire::Plain => Ports::Plain,
            Wire::Mutual if role == Role::Bots => Ports::Mutual,
            Wire::Mutual => Ports::Both,
        }
    }

    /// Whether a role's servers ask their callers for the grid's own tokens.
    pub(crate) fn asks_for_tokens(&self, role: Role) -> bool {
        let dispatches = role.has_execution() || role.has_bots();
        self.spec.execution.enabled && (dispatches || self.authorization.is_some())
    }

    /// The one pod that has the volume, if there is one: the store inside the grid, or SQLite. What the user's own
    /// configuration keeps on a volume only the user knows, who asks for one by spec.storage.
    pub(crate) fn volume_role(&self) -> Option<Role> {
        let embedded = match self.raw {
            Some(_) => self.spec.storage.is_some(),
            None => matches!(self.storage, Storage::Embedded(_)),
        };
        (embedded || self.database.is_none())
            .then(|| super::roles::serving(self.spec.topology, Role::has_cas))
    }
}

/// Checks the wish.
///
/// # Errors
/// The first thing that is wrong, with its remedy.
pub(crate) fn validate<'a>(
    grid: &'a BuildGrid,
    world: &World,
    images: &Images,
    now: Timestamp,
) -> Result<Grid<'a>, Trouble> {
    let spec = &grid.spec;
    check_kinds(spec, world)?;
    let version = effective_version(spec.version.as_deref(), &world.owned, images);
    let storage = match &spec.storage_ref {
        None => Storage::Embedded(spec.storage.clone().unwrap_or_default()),
        Some(reference) => Storage::Shared(Box::new(shared(&reference.name, world.storage.as_ref())?)),
    };
    let database = spec.database.as_ref().map(|d| database(d, world)).transpose()?;
    let authorization = spec.authorization.as_ref().map(|a| authorization::validate(a, world)).transpose()?;
    check_results(spec, world)?;
    let raw = spec.config_from.as_ref().map(|reference| own_config(reference, spec, world)).transpose()?;
    let sleep = Sleep::of(grid, &world.pools, now)?;
    let secrets_hash =
        secrets_hash(spec, database.as_ref(), authorization.as_ref(), raw.as_ref(), &storage, world);
    let rotation = grid.annotations().get(ROTATE_ANNOTATION).cloned();
    let grid = Grid {
        rotation,
        revision: images.revision.clone(),
        wish: wish(spec, &version, secrets_hash.as_deref(), world),
        image: images.of("grid-server", &version),
        owner: Owner::new(grid, "BuildGrid"),
        spec,
        version,
        storage,
        queue_volume: queue_volume(grid, world),
        secrets_hash,
        database,
        tls: certificate::certificate(spec, &grid.name_any(), world)?,
        mutual_tls: mutual_tls::validate(
            &grid.name_any(),
            spec.mutual_tls.as_ref(),
            &world.secrets,
            &world.missing_kinds,
        )?,
        authorization,
        raw,
        sleep,
        max_execution_seconds: seconds(
            &spec.execution.max_execution_timeout,
            "spec.execution.maxExecutionTimeout",
        )?,
    };
    check_volume(&grid, world)?;
    Ok(grid)
}

/// Fails where the cluster lacks a kind without which there would be no way in.
fn check_kinds(spec: &BuildGridSpec, world: &World) -> Result<(), Trouble> {
    let certificate = spec.tls.as_ref().is_some_and(|tls| tls.cert_manager.is_some());
    let asked = [
        (spec.gateway.is_some(), GRPC_ROUTE, "spec.gateway", "install the Gateway API, or use spec.ingress"),
        (
            certificate,
            CERTIFICATE,
            "spec.tls.certManager",
            "install cert-manager, or use another way of spec.tls",
        ),
    ];
    match asked.iter().find(|(asked, kind, ..)| *asked && world.missing_kinds.contains(kind)) {
        Some((_, kind, field, remedy)) => {
            let message =
                format!("{field} needs the kind {}, which the cluster doesn't have: {remedy}", kind.kind);
            Err(Trouble::new("KindNotFound", message))
        }
        None => Ok(()),
    }
}

/// Fails where a key to the cache of results is missing.
fn check_results(spec: &BuildGridSpec, world: &World) -> Result<(), Trouble> {
    let secrets = spec.action_cache.secrets();
    secrets.into_iter().try_for_each(|secret| {
        let remedy = "create it in this namespace";
        secret_bytes(secret, &world.secrets, "spec.actionCache", remedy).map(drop)
    })
}

/// Fails where the volume that is there can't become the one that is wanted.
fn check_volume(grid: &Grid<'_>, world: &World) -> Result<(), Trouble> {
    let (Some(role), Storage::Embedded(embedded)) = (grid.volume_role(), &grid.storage) else {
        return Ok(());
    };
    let set = world.owned.typed::<StatefulSet>(&grid.names().component(role.component()));
    check_unchanged(set.as_ref(), &embedded.volume, "spec.storage.volume")
}

/// The volume for SQLite alone: the one that is there, for it may have been the store's too, and nobody can ask for another.
fn queue_volume(grid: &BuildGrid, world: &World) -> VolumeSpec {
    let role = super::roles::serving(grid.spec.topology, Role::has_cas);
    let name = grid.name_any();
    let set = world.owned.typed::<StatefulSet>(&Names(&name).component(role.component()));
    set.as_ref().and_then(claimed).unwrap_or_default()
}

/// The user's own configuration, whose Secrets exist.
fn own_config(reference: &ConfigMapKeyRef, spec: &BuildGridSpec, world: &World) -> Result<Raw, Trouble> {
    let text = config_text(reference, &world.config_maps, "spec.configFrom")?;
    let raw = raw::complete(text, spec.execution.enabled)?;
    for (name, key) in &raw.secrets {
        let reference = SecretKeyRef { name: name.clone(), key: key.clone() };
        secret_bytes(&reference, &world.secrets, "spec.configFrom", "create it in this namespace")?;
    }
    Ok(raw)
}

/// A hash of everything that replaces pods where it changes: the spec and what it refers to. Whether pods run at all is
/// no part of it.
fn wish(spec: &BuildGridSpec, version: &str, secrets: Option<&str>, world: &World) -> String {
    let asked = BuildGridSpec { hibernate: false, paused: false, maintenance: None, ..spec.clone() };
    let storage = world.storage.as_ref().map(|storage| &storage.spec);
    let texts: Vec<_> = world.config_maps.values().map(|map| &map.data).collect();
    content_hash(&json!([asked, version, secrets, storage, texts]))
}

/// A hash of all secrets that servers read only when they start.
fn secrets_hash(
    spec: &BuildGridSpec,
    database: Option<&Database>,
    authorization: Option<&Authorization<'_>>,
    raw: Option<&Raw>,
    storage: &Storage,
    world: &World,
) -> Option<String> {
    let of_database = database.map(|database| database.hash.clone());
    let of_tokens = authorization.and_then(|a| a.key.as_ref()).map(|(_, key)| content_hash(&json!(key)));
    let of_results = spec.action_cache.secrets().into_iter().map(|secret| (&secret.name, &secret.key));
    let of_results: Vec<_> = of_results.collect();
    let with = |of_tokens: Option<&String>, of_storage: Option<&Mounted>| {
        let keys = raw.iter().flat_map(|raw| &raw.secrets).chain(of_storage.into_iter().flatten());
        let keys = keys.map(|(name, key)| (name, key)).chain(of_results.iter().copied());
        let values = keys.filter_map(|(name, key)| {
            let value = world.secrets.get(name)?.data.as_ref()?.get(key)?;
            Some(content_hash(&json!(value.0)))
        });
        let hashes: Vec<String> = of_database.iter().chain(of_tokens).cloned().chain(values).collect();
        match hashes.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(content_hash(&json!(several))),
        }
    };
    let tree = match storage {
        Storage::Shared(access) if access.is_direct() => Some(access.tree()),
        Storage::Shared(_) | Storage::Embedded(_) => None,
    };
    // Earlier operators counted all of the tier's, and the key of tokens.
    let (all, at_start) = (tree.map(|tree| &tree.secrets), tree.map(|tree| &tree.at_start));
    let of_tokens = of_tokens.as_ref();
    let former = [with(None, all), with(of_tokens, at_start), with(of_tokens, all)];
    kept_secrets(&world.owned, with(None, at_start), former)
}

/// The version that a workload is to have: the one that is asked for, else the one that it has, else the
/// operator's own. So an upgrade of the operator alone restarts nothing.
pub(crate) fn effective_version(asked: Option<&str>, owned: &Observed, images: &Images) -> String {
    let running = || noted(owned, VERSION_ANNOTATION);
    asked.map(str::to_owned).or_else(running).unwrap_or_else(|| images.version.clone())
}

fn shared(name: &str, storage: Option<&CasStorage>) -> Result<Access, Trouble> {
    let Some(storage) = storage else {
        return Err(Trouble::missing(
            "CasStorage",
            name,
            "spec.storageRef",
            "create it in this namespace, or remove storageRef to keep blobs on a volume of the grid",
        ));
    };
    if storage.metadata.deletion_timestamp.is_some() {
        return Err(Trouble::new(
            "StorageLeaving",
            format!("the CasStorage {name} is being deleted: point spec.storageRef to another"),
        ));
    }
    Access::of(storage).map_err(|trouble| {
        Trouble::new("StorageInvalid", format!("the CasStorage {name} is wrong: {}", trouble.message))
    })
}

fn database(spec: &DatabaseSpec, world: &World) -> Result<Database, Trouble> {
    let reference = &spec.secret_ref;
    let value = secret_text(
        reference,
        &world.secrets,
        "spec.database.secretRef",
        "create it with the database's URI",
    )?;
    if !["postgres://", "postgresql://", "postgresql+psycopg2://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
    {
        return Err(Trouble::new(
            "DatabaseUri",
            format!(
                "the key {} of the Secret {} is no PostgreSQL URI: it has to begin with postgresql://",
                reference.key, reference.name
            ),
        ));
    }
    if let Some(authority) = &spec.ca_secret_ref {
        let remedy =
            "create it with the CA of the database's certificate, or remove spec.database.caSecretRef";
        secret_text(authority, &world.secrets, "spec.database.caSecretRef", remedy)?;
    }
    let hash = content_hash(&json!(value));
    Ok(Database { secret: reference.clone(), hash, authority: spec.ca_secret_ref.clone() })
}

fn seconds(span: &Span, field: &str) -> Result<u64, Trouble> {
    span.seconds().ok_or_else(|| {
        Trouble::new("Invalid", format!("{field}: {} is no time like 30s, 15m, 2h or 7d", span.0))
    })
}
