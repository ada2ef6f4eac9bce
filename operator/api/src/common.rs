//! Field types that several resources share: references, sizes, durations, volumes, pod templates.
//!
//! Sizes and durations are strings with units, checked by the schema; what they mean in bytes and seconds is
//! computed here and nowhere else.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A setting that has no options of its own: its presence is the choice.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct Empty {}

/// A resource of the same namespace, by name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct LocalRef {
    /// Name of the resource, in this resource's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A number of bytes as a Kubernetes quantity: `512Mi`, `10Gi`, `2G`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct ByteSize(pub String);

impl ByteSize {
    /// The size in bytes; nothing where it is no whole quantity or does not fit into 64 bits.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let split = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (number, unit) = self.0.split_at(split);
        let factor: u64 = match unit {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl From<&str> for ByteSize {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 16, "pattern": "^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$" })
    }
}

/// A length of time with its unit: `30s`, `15m`, `2h`, `7d`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Span(pub String);

impl Span {
    /// The length in seconds; nothing where it is malformed or does not fit into 64 bits.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        let unit = self.0.chars().last()?;
        let factor: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        self.0.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl From<&str> for Span {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 10, "pattern": "^[1-9][0-9]*(s|m|h|d)$" })
    }
}

/// What becomes of a volume when its resource is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum DeletionPolicy {
    /// The claim stays, with its data.
    #[default]
    Retain,
    /// The claim is deleted with the resource.
    Delete,
}

/// The volume that a server keeps its data on.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "storageClassName can't be changed: a claim keeps its class; make a new resource with the new class and move to it"),
    validation = ("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "a volume can grow, and never shrink; make a new resource with the smaller size and move to it")
)]
pub struct VolumeSpec {
    /// Size of the claim.
    #[serde(default = "VolumeSpec::default_size")]
    pub size: ByteSize,
    /// StorageClass of the claim; the cluster's default class where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl VolumeSpec {
    fn default_size() -> ByteSize {
        "20Gi".into()
    }
}

impl Default for VolumeSpec {
    fn default() -> Self {
        Self { size: Self::default_size(), storage_class_name: None }
    }
}

/// What is laid over the pod template that the operator makes: the escape hatch for everything that has no
/// field of its own. Objects are merged, lists of named things (containers, volumes, env) by name, other lists
/// replaced. A field that Kubernetes doesn't know is refused, and said so in a condition.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct PodTemplate {
    /// Labels and annotations to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodTemplateMetadata>,
    /// Fields of a PodSpec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub spec: Option<Map<String, Value>>,
}

/// Labels and annotations of a pod template.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct PodTemplateMetadata {
    /// Labels to add; those that the operator sets can't be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: Option<BTreeMap<String, String>>,
}

fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": true })
}

/// Schema of `status.conditions`: one entry a type, so that several managers can each own theirs.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema =
        <Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> as JsonSchema>::json_schema(
            generator,
        );
    schema.insert("maxItems".into(), 32.into());
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".into(), serde_json::json!(["type"]));
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_bytes() {
        for (text, bytes) in
            [("1", 1), ("4k", 4_000), ("512Mi", 512 << 20), ("2G", 2_000_000_000), ("3Ti", 3 << 40)]
        {
            assert_eq!(ByteSize::from(text).bytes(), Some(bytes), "{text}");
        }
        for text in ["", "Gi", "1.5Gi", "9999999999Ti", "1Xi"] {
            assert_eq!(ByteSize::from(text).bytes(), None, "{text}");
        }
    }

    #[test]
    fn spans_are_exact_seconds() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("2h", 7_200), ("7d", 604_800)] {
            assert_eq!(Span::from(text).seconds(), Some(seconds), "{text}");
        }
        for text in ["", "s", "5", "5w", "-1s"] {
            assert_eq!(Span::from(text).seconds(), None, "{text}");
        }
    }
}
