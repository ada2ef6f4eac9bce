//! The wish for a grid, checked against the world: what `build` takes, and what can't be wrong any more.

use std::collections::BTreeSet;

use grid_operator_api::{
    BuildGrid, BuildGridSpec, CasStorage, EmbeddedStorage, SecretKeyRef, SelfSigned, Span, VolumeSpec,
};
use grid_operator_apply::{Observed, content_hash};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;

use super::observe::World;
use super::roles::Role;
use crate::casstorage::Access;
use crate::context::Images;
use crate::names::{Names, Owner, VERSION_ANNOTATION};
use crate::trouble::Trouble;
use crate::workload::check_unchanged;

/// A grid that can be built.
#[derive(Clone, Debug)]
pub(crate) struct Grid<'a> {
    pub(crate) owner: Owner,
    pub(crate) spec: &'a BuildGridSpec,
    pub(crate) version: String,
    pub(crate) image: String,
    pub(crate) storage: Storage,
    pub(crate) database: Option<Database>,
    pub(crate) tls: Option<Tls>,
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
}

/// How the ingress gets its certificate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tls {
    /// Not at all: plain text.
    Disabled,
    /// From the user's Secret, whose CA is told to clients where it names one.
    Given { secret: String, authority: Option<String> },
    /// From the operator; good for so many seconds.
    SelfSigned { seconds: u64 },
}

impl Grid<'_> {
    pub(crate) fn names(&self) -> Names<'_> {
        Names(&self.owner.name)
    }

    /// The one pod that has the volume, if there is one: the store inside the grid, or SQLite.
    pub(crate) fn volume_role(&self) -> Option<Role> {
        let embedded = matches!(self.storage, Storage::Embedded(_));
        (embedded || self.database.is_none())
            .then(|| super::roles::serving(self.spec.topology, Role::has_cas))
    }
}

/// Checks the wish.
///
/// # Errors
/// The first thing that is wrong, with its remedy.
pub(crate) fn validate<'a>(grid: &'a BuildGrid, world: &World, images: &Images) -> Result<Grid<'a>, Trouble> {
    let spec = &grid.spec;
    let version = effective_version(spec.version.as_deref(), &world.owned, images);
    let storage = match &spec.storage_ref {
        None => Storage::Embedded(spec.storage.clone().unwrap_or_default()),
        Some(reference) => Storage::Shared(Box::new(shared(&reference.name, world.storage.as_ref())?)),
    };
    let volume = match &storage {
        Storage::Embedded(embedded) => Some(embedded.volume.clone()),
        // SQLite alone has a volume of the size that nobody chose.
        Storage::Shared(_) => spec.database.is_none().then(VolumeSpec::default),
    };
    if let Some(volume) = volume {
        let role = super::roles::serving(spec.topology, Role::has_cas);
        let set = world.owned.typed::<StatefulSet>(&Names(&grid.name_any()).component(role.component()));
        check_unchanged(set.as_ref(), &volume, "spec.storage.volume")?;
    }
    let database =
        spec.database.as_ref().map(|d| database(&d.secret_ref, world.database.as_ref())).transpose()?;
    Ok(Grid {
        image: images.of("grid-server", &version),
        owner: Owner::new(grid, "BuildGrid"),
        spec,
        version,
        storage,
        database,
        tls: tls(spec, world)?,
        max_execution_seconds: seconds(
            &spec.execution.max_execution_timeout,
            "spec.execution.maxExecutionTimeout",
        )?,
    })
}

/// The version that a workload is to have: the one that is asked for, else the one that it has, else the
/// operator's own. So an upgrade of the operator alone restarts nothing.
pub(crate) fn effective_version(asked: Option<&str>, owned: &Observed, images: &Images) -> String {
    let running = || {
        let deployments = owned.all::<Deployment>().into_iter().filter_map(|d| d.spec?.template.metadata);
        let sets = owned.all::<StatefulSet>().into_iter().filter_map(|s| s.spec?.template.metadata);
        deployments.chain(sets).find_map(|meta| meta.annotations?.get(VERSION_ANNOTATION).cloned())
    };
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

fn database(reference: &SecretKeyRef, secret: Option<&Secret>) -> Result<Database, Trouble> {
    let value =
        secret_value(reference, secret, "spec.database.secretRef", "create it with the database's URI")?;
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
    Ok(Database { secret: reference.clone(), hash: content_hash(&json!(value)) })
}

fn secret_value(
    reference: &SecretKeyRef,
    secret: Option<&Secret>,
    field: &str,
    remedy: &str,
) -> Result<String, Trouble> {
    let Some(secret) = secret else {
        return Err(Trouble::missing("Secret", &reference.name, field, remedy));
    };
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(&reference.key)) else {
        let keys: BTreeSet<&str> = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
        let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Trouble::new(
            "KeyNotFound",
            format!(
                "{field} names the key {} of the Secret {}, which has: {keys}",
                reference.key, reference.name
            ),
        ));
    };
    String::from_utf8(value.0.clone()).map(|text| text.trim().to_owned()).map_err(|_| {
        Trouble::new(
            "KeyNotText",
            format!("the key {} of the Secret {} is no text", reference.key, reference.name),
        )
    })
}

fn tls(spec: &BuildGridSpec, world: &World) -> Result<Option<Tls>, Trouble> {
    if spec.ingress.is_none() {
        return Ok(None);
    }
    let asked = spec.tls.clone().unwrap_or_default();
    if asked.disabled.is_some() {
        return Ok(Some(Tls::Disabled));
    }
    if let Some(reference) = asked.secret_ref {
        let remedy = "create a Secret of type kubernetes.io/tls, or remove spec.tls for a certificate of the operator's";
        let Some(secret) = &world.certificate else {
            return Err(Trouble::missing("Secret", &reference.name, "spec.tls.secretRef", remedy));
        };
        for key in ["tls.crt", "tls.key"] {
            let key = SecretKeyRef { name: reference.name.clone(), key: key.into() };
            secret_value(&key, Some(secret), "spec.tls.secretRef", remedy)?;
        }
        let authority = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
        let authority = authority.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        return Ok(Some(Tls::Given { secret: secret.name_any(), authority }));
    }
    let SelfSigned { validity } = asked.self_signed.unwrap_or_default();
    let seconds = seconds(&validity, "spec.tls.selfSigned.validity")?;
    if seconds < 3_600 {
        return Err(Trouble::new(
            "ValidityTooShort",
            format!(
                "spec.tls.selfSigned.validity is {}: give it an hour at least, so that a renewal reaches every part",
                validity.0
            ),
        ));
    }
    Ok(Some(Tls::SelfSigned { seconds }))
}

fn seconds(span: &Span, field: &str) -> Result<u64, Trouble> {
    span.seconds().ok_or_else(|| {
        Trouble::new("Invalid", format!("{field}: {} is no time like 30s, 15m, 2h or 7d", span.0))
    })
}
