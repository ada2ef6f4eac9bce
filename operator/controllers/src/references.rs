//! Keys of Secrets and ConfigMaps that a resource names: what is in them, or what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{ConfigMapKeyRef, SecretKeyRef};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::Api;

use crate::error::{Error, Result};
use crate::trouble::Trouble;

/// What a resource may refer to, and somebody else makes: a Secret or a ConfigMap of its namespace, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referent {
    /// A Secret.
    Secret(String),
    /// A ConfigMap.
    ConfigMap(String),
}

/// The Secrets of these names that exist.
pub(crate) async fn secrets(
    client: &Client,
    namespace: &str,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, Secret>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(secret) = api.get_opt(name).await.map_err(Error::read(format!("the Secret {name}")))? {
            found.insert(name.clone(), secret);
        }
    }
    Ok(found)
}

/// The ConfigMaps of these names that exist.
pub(crate) async fn config_maps(
    client: &Client,
    namespace: &str,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(map) = api.get_opt(name).await.map_err(Error::read(format!("the ConfigMap {name}")))? {
            found.insert(name.clone(), map);
        }
    }
    Ok(found)
}

/// The bytes of a Secret's key.
///
/// # Errors
/// The Secret or the key doesn't exist.
pub(crate) fn secret_bytes<'a>(
    reference: &SecretKeyRef,
    secrets: &'a BTreeMap<String, Secret>,
    field: &str,
    remedy: &str,
) -> std::result::Result<&'a [u8], Trouble> {
    let Some(secret) = secrets.get(&reference.name) else {
        return Err(Trouble::missing("Secret", &reference.name, field, remedy));
    };
    match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
        Some(ByteString(value)) => Ok(value),
        None => Err(no_key("Secret", &reference.name, &reference.key, field, secret.data.iter().flatten())),
    }
}

/// The same as text, without white space around it.
///
/// # Errors
/// The Secret or the key doesn't exist, or holds no text.
pub(crate) fn secret_text(
    reference: &SecretKeyRef,
    secrets: &BTreeMap<String, Secret>,
    field: &str,
    remedy: &str,
) -> std::result::Result<String, Trouble> {
    let bytes = secret_bytes(reference, secrets, field, remedy)?;
    std::str::from_utf8(bytes).map(|text| text.trim().to_owned()).map_err(|_| {
        Trouble::new(
            "KeyNotText",
            format!("the key {} of the Secret {} is no text", reference.key, reference.name),
        )
    })
}

/// The text of a ConfigMap's key.
///
/// # Errors
/// The ConfigMap or the key doesn't exist.
pub(crate) fn config_text<'a>(
    reference: &ConfigMapKeyRef,
    maps: &'a BTreeMap<String, ConfigMap>,
    field: &str,
) -> std::result::Result<&'a str, Trouble> {
    let Some(map) = maps.get(&reference.name) else {
        return Err(Trouble::missing("ConfigMap", &reference.name, field, "create it in this namespace"));
    };
    match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
        Some(text) => Ok(text),
        None => Err(no_key("ConfigMap", &reference.name, &reference.key, field, map.data.iter().flatten())),
    }
}

fn no_key<'a, V: 'a>(
    kind: &str,
    name: &str,
    key: &str,
    field: &str,
    has: impl Iterator<Item = (&'a String, V)>,
) -> Trouble {
    let keys: Vec<&str> = has.map(|(key, _)| key.as_str()).collect();
    let keys = keys.join(", ");
    Trouble::new(
        "KeyNotFound",
        format!("{field} names the key {key} of the {kind} {name}, which has: {keys}"),
    )
}
