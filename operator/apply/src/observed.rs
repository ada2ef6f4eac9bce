//! What exists of one resource: the objects in its namespace that carry its labels.

use std::collections::BTreeMap;

use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;

use crate::desired::Kind;
use crate::error::{Error, Result};

/// The live objects of one resource, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    objects: BTreeMap<(Kind, String), DynamicObject>,
}

impl Observed {
    /// Lists the objects of `kinds` that `selector` matches.
    ///
    /// # Errors
    /// Where one of the lists can't be had: half an observation would look like missing objects.
    pub async fn list(client: &Client, namespace: &str, kinds: &[Kind], selector: &str) -> Result<Self> {
        let lists = kinds.iter().map(|kind| async move {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind.api_resource());
            let list =
                api.list(&ListParams::default().labels(selector)).await.map_err(|source| Error::Request {
                    verb: "list",
                    kind: kind.kind.to_owned(),
                    namespace: namespace.to_owned(),
                    name: selector.to_owned(),
                    source: Box::new(source),
                })?;
            Ok::<_, Error>((*kind, list.items))
        });
        let mut observed = Self::default();
        for (kind, items) in futures::future::try_join_all(lists).await? {
            for item in items {
                observed.insert(kind, item);
            }
        }
        Ok(observed)
    }

    /// Adds all of another observation's.
    pub(crate) fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
    }

    /// Adds or replaces an object.
    pub fn insert(&mut self, kind: Kind, object: DynamicObject) {
        self.objects.insert((kind, object.name_any()), object);
    }

    /// Forgets an object.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.objects.remove(&(kind, name.to_owned()));
    }

    /// The object of that kind and name.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&DynamicObject> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// The object of that type and name; nothing where it doesn't exist or isn't of that shape.
    #[must_use]
    pub fn typed<K: k8s_openapi::Resource + DeserializeOwned>(&self, name: &str) -> Option<K> {
        parse(self.get(Kind::of::<K>(), name)?)
    }

    /// All objects of a type, by name.
    #[must_use]
    pub fn all<K: k8s_openapi::Resource + DeserializeOwned>(&self) -> Vec<K> {
        let kind = Kind::of::<K>();
        self.objects.iter().filter(|((k, _), _)| *k == kind).filter_map(|(_, object)| parse(object)).collect()
    }

    /// Every object with its kind.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &DynamicObject)> {
        self.objects.iter().map(|((kind, _), object)| (*kind, object))
    }
}

fn parse<K: DeserializeOwned>(object: &DynamicObject) -> Option<K> {
    serde_json::from_value(serde_json::to_value(object).ok()?).ok()
}
