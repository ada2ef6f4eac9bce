//! The CustomResourceDefinitions as YAML, for `crds/` and for the chart.

use kube::CustomResourceExt;
use serde_yaml::Value;

use crate::{BuildGrid, CasStorage, WorkerPool};

/// What Kubernetes' own types, which bring no bounds, get: characters of a text, items of a list, keys of a map. No message of a
/// condition is longer, by Kubernetes' own rule.
const BOUNDS: [(&str, u64); 3] = [("maxLength", 32_768), ("maxItems", 64), ("maxProperties", 64)];

/// File names and contents of the generated CRDs.
///
/// # Errors
/// Never for the types of this crate; the error is serde's.
pub fn crds() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    [BuildGrid::crd(), CasStorage::crd(), WorkerPool::crd()]
        .into_iter()
        .map(|crd| {
            let name = format!("grid.build_{}.yaml", crd.spec.names.plural);
            let mut crd = serde_yaml::to_value(&crd)?;
            if let Some(schema) = schema_of(&mut crd) {
                bound(schema);
            }
            let yaml = serde_yaml::to_string(&crd)?;
            Ok((
                name,
                format!(
                    "# Generated from operator/api by `cargo xtask codegen`. Not edited by hand.\n{yaml}"
                ),
            ))
        })
        .collect()
}

fn schema_of(crd: &mut Value) -> Option<&mut Value> {
    crd.get_mut("spec")?.get_mut("versions")?.get_mut(0)?.get_mut("schema")?.get_mut("openAPIV3Schema")
}

/// Bounds what has no bound yet, at every depth.
fn bound(schema: &mut Value) {
    let is_of = |schema: &Value, type_: &str| schema.get("type").and_then(Value::as_str) == Some(type_);
    let is_text = is_of(schema, "string") && schema.get("enum").is_none() && schema.get("format").is_none();
    let asked = [is_text, is_of(schema, "array"), schema.get("additionalProperties").is_some()];
    let Some(map) = schema.as_mapping_mut() else { return };
    for ((key, limit), _) in BOUNDS.iter().zip(asked).filter(|(_, asked)| *asked) {
        map.entry((*key).into()).or_insert_with(|| (*limit).into());
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = map.get_mut(part) {
            bound(part);
        }
    }
    let fields = map.get_mut("properties").and_then(Value::as_mapping_mut);
    fields.into_iter().flatten().for_each(|(_, field)| bound(field));
}
