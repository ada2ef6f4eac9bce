//! An object as a controller wants it: its kind, its JSON and the hash of that.

use k8s_openapi::{Metadata, Resource};
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::APPLIED_ANNOTATION;
use crate::error::Result;

/// A kind that controllers make objects of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Kind in CamelCase.
    pub kind: &'static str,
    /// Name in URLs.
    pub plural: &'static str,
}

impl Kind {
    /// The kind of a generated type.
    #[must_use]
    pub const fn of<K: Resource>() -> Self {
        Self { group: K::GROUP, version: K::VERSION, kind: K::KIND, plural: K::URL_PATH_SEGMENT }
    }

    /// What kube needs for requests on this kind.
    #[must_use]
    pub fn api_resource(&self) -> ApiResource {
        let api_version = if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        };
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version,
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

/// A wanted object, ready to be applied.
#[derive(Clone, Debug)]
pub struct Desired {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) object: DynamicObject,
}

impl Desired {
    /// A wanted object of a generated type.
    ///
    /// # Errors
    /// Where the object can't be written as JSON, or has no name.
    pub fn new<K>(object: &K) -> Result<Self>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        Self::from_value(Kind::of::<K>(), serde_json::to_value(object)?)
    }

    /// A wanted object that is JSON already.
    ///
    /// # Errors
    /// Where the JSON is no Kubernetes object.
    pub fn from_value(kind: Kind, mut value: Value) -> Result<Self> {
        prune(&mut value);
        let hash = content_hash(&value);
        let mut object: DynamicObject = serde_json::from_value(value)?;
        object
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(APPLIED_ANNOTATION.to_owned(), hash.clone());
        let name = object.metadata.name.clone().unwrap_or_default();
        Ok(Self { kind, name, hash, object })
    }

    /// Kind of the object.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Name of the object.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object, with the annotation that keeps its hash.
    #[must_use]
    pub fn object(&self) -> &DynamicObject {
        &self.object
    }
}

/// Hash of a JSON value, the same whatever the order of its keys: 16 hexadecimal characters.
#[must_use]
pub fn content_hash(value: &Value) -> String {
    let mut canonical = String::new();
    write_canonical(value, &mut canonical);
    let digest = Sha256::digest(canonical.as_bytes());
    digest.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for key in keys {
                write_text(key, out);
                out.push(':');
                write_canonical(&map[key], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// As JSON has it; nearly all texts here need no escape.
fn write_text(text: &str, out: &mut String) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

/// Removes nulls: under server-side apply a null would claim the field.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hash_ignores_the_order_of_keys_and_nothing_else() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":{"d":"x","c":[1,2]},"a":1}"#).unwrap();
        assert_eq!(content_hash(&a), content_hash(&b));
        assert_ne!(content_hash(&a), content_hash(&json!({"a": 1, "b": {"c": [2, 1], "d": "x"}})));
        assert_ne!(content_hash(&json!({"a": "1"})), content_hash(&json!({"a": 1})));
        assert_ne!(content_hash(&json!(["a", "b"])), content_hash(&json!(["a,b"])));
        assert_ne!(content_hash(&json!("a\"")), content_hash(&json!("a\\\"")));
    }

    #[test]
    fn nulls_are_not_claimed() {
        let kind = Kind::of::<k8s_openapi::api::core::v1::ConfigMap>();
        let wanted = Desired::from_value(
            kind,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": null, "b": "1"}}),
        )
        .unwrap();
        assert_eq!(wanted.object.data["data"], json!({"b": "1"}));
        assert_eq!(wanted.name(), "c");
    }
}
