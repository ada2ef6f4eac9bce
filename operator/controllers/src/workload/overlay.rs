//! Lays a user's pod template over a generated one.
//!
//! Objects are merged, lists of named things by name, other lists replaced. The result is JSON that the API
//! server checks strictly: a field that it doesn't know is refused there, and not dropped in silence.

use grid_operator_api::PodTemplate;
use serde_json::{Map, Value};

/// The workload's JSON with `template` laid over its `spec.template`. Labels that are there already stay: the
/// selector needs them.
pub(crate) fn overlay(workload: Value, template: Option<&PodTemplate>) -> Value {
    at("/spec/template", workload, template)
}

/// The same where the pod's template is somewhere else.
pub(crate) fn at(pointer: &str, mut workload: Value, template: Option<&PodTemplate>) -> Value {
    let Some(template) = template else { return workload };
    let Some(pod) = workload.pointer_mut(pointer) else { return workload };
    if let Some(metadata) = &template.metadata {
        for (field, added) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
            let Some(added) = added else { continue };
            let entry =
                pod["metadata"].as_object_mut().map(|m| m.entry(field).or_insert(Value::Object(Map::new())));
            let Some(Value::Object(existing)) = entry else { continue };
            for (key, value) in added {
                existing.entry(key).or_insert_with(|| Value::String(value.clone()));
            }
        }
    }
    if let Some(spec) = &template.spec {
        merge(&mut pod["spec"], &Value::Object(spec.clone()));
    }
    workload
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(existing) => merge(existing, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(base), Value::Array(over)) if are_named(base) && are_named(over) => {
            for item in over {
                match base.iter_mut().find(|existing| existing["name"] == item["name"]) {
                    Some(existing) => merge(existing, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn are_named(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| item.get("name").is_some())
}

#[cfg(test)]
mod tests {
    use super::overlay;
    use serde_json::json;

    #[test]
    fn named_things_are_merged_and_the_rest_replaced() {
        let workload = json!({"spec": {"template": {
            "metadata": {"labels": {"a": "ours"}},
            "spec": {"containers": [{"name": "server", "image": "x", "args": ["serve"], "env": [{"name": "A", "value": "1"}]}]}
        }}});
        let template = serde_json::from_value(json!({
            "metadata": {"labels": {"a": "theirs", "b": "theirs"}, "annotations": {"c": "1"}},
            "spec": {"nodeSelector": {"disk": "fast"}, "containers": [
                {"name": "server", "args": ["other"], "env": [{"name": "B", "value": "2"}]},
                {"name": "extra", "image": "y"}
            ]}
        }))
        .unwrap();
        assert_eq!(
            overlay(workload, Some(&template)),
            json!({"spec": {"template": {
                "metadata": {"labels": {"a": "ours", "b": "theirs"}, "annotations": {"c": "1"}},
                "spec": {"nodeSelector": {"disk": "fast"}, "containers": [
                    {"name": "server", "image": "x", "args": ["other"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                    {"name": "extra", "image": "y"}
                ]}
            }}})
        );
    }
}
