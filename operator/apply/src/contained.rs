//! Whether a wanted object is already what the live one says.
//!
//! The live object has more fields (defaults, status, what others set); the wanted one is contained in it if every
//! value of it is there. Lists of named things are compared by name, for others may add their own. A difference
//! in writing alone (`1024Mi` for `1Gi`) counts as a difference: the apply that follows changes nothing, and is
//! remembered by resourceVersion.

use serde_json::Value;

/// True where applying `wanted` over `live` would change no value.
pub(crate) fn contained(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().all(|(key, value)| match live.get(key) {
                Some(found) => contained(value, found),
                None => is_empty(value),
            })
        }
        (Value::Array(wanted), Value::Array(live)) => match list_key(wanted) {
            Some(key) => wanted.iter().all(|item| {
                live.iter().any(|other| other.get(key) == item.get(key) && contained(item, other))
            }),
            None => wanted.len() == live.len() && wanted.iter().zip(live).all(|(a, b)| contained(a, b)),
        },
        (wanted, live) => wanted == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The key that tells the items of a list apart, where it is a list of objects that all have it.
fn list_key(items: &[Value]) -> Option<&'static str> {
    ["name", "mountPath", "type", "ip"]
        .into_iter()
        .find(|key| !items.is_empty() && items.iter().all(|item| item.get(key).is_some_and(Value::is_string)))
}

#[cfg(test)]
mod tests {
    use super::contained;
    use serde_json::json;

    #[test]
    fn defaults_and_foreign_items_do_not_differ() {
        let wanted = json!({"spec": {"containers": [{"name": "a", "image": "x"}], "labels": {}}});
        let live = json!({"spec": {"containers": [{"name": "z"}, {"name": "a", "image": "x", "pull": "Always"}], "dns": 1}});
        assert!(contained(&wanted, &live));
    }

    #[test]
    fn every_kind_of_drift_differs() {
        let wanted = json!({"r": 1, "args": ["a", "b"], "c": [{"name": "a", "image": "x"}]});
        for live in [
            json!({"r": 2, "args": ["a", "b"], "c": [{"name": "a", "image": "x"}]}),
            json!({"args": ["a", "b"], "c": [{"name": "a", "image": "x"}]}),
            json!({"r": 1, "args": ["a"], "c": [{"name": "a", "image": "x"}]}),
            json!({"r": 1, "args": ["b", "a"], "c": [{"name": "a", "image": "x"}]}),
            json!({"r": 1, "args": ["a", "b"], "c": [{"name": "a", "image": "y"}]}),
            json!({"r": 1, "args": ["a", "b"], "c": []}),
        ] {
            assert!(!contained(&wanted, &live), "{live}");
        }
    }
}
