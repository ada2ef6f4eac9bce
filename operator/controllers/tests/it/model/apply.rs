//! Merging, as server-side apply and JSON merge patches do it.

use serde_json::Value;

/// Removes what `before` had applied and `now` doesn't any more.
pub(crate) fn remove_dropped(live: &mut Value, before: &Value, now: &Value) {
    match (live, before) {
        (Value::Object(live), Value::Object(before)) => {
            for (key, was) in before {
                match (live.get_mut(key), now.get(key)) {
                    (Some(_), None) => {
                        live.remove(key);
                    }
                    (Some(value), Some(now)) => remove_dropped(value, was, now),
                    (None, _) => {}
                }
            }
        }
        (Value::Array(live), Value::Array(before)) => {
            let Some(key) = key(before) else { return };
            let has = |list: &Value, id: &Value| {
                list.as_array().is_some_and(|items| items.iter().any(|item| item[key] == *id))
            };
            live.retain(|item| {
                let was = before.iter().any(|b| b[key] == item[key]);
                !was || has(now, &item[key])
            });
            for item in live.iter_mut() {
                let find = |list: &[Value]| list.iter().find(|i| i[key] == item[key]).cloned();
                if let (Some(was), Some(is)) = (find(before), now.as_array().and_then(|n| find(n))) {
                    remove_dropped(item, &was, &is);
                }
            }
        }
        _ => {}
    }
}

/// Lays `config` over `live`.
pub(crate) fn merge(live: &mut Value, config: &Value) {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            for (key, value) in config {
                merge(live.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(config)) if key(config).is_some() && key(live) == key(config) => {
            let key = key(config).unwrap();
            for item in config {
                match live.iter_mut().find(|l| l[key] == item[key]) {
                    Some(existing) => merge(existing, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, config) => *live = config.clone(),
    }
}

/// RFC 7386.
pub(crate) fn json_merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            json_merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// True where every value of `wanted` is in `live`.
pub(crate) fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|l| covers(l, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

/// The key of a list's items, as the real schemas have it.
fn key(items: &[Value]) -> Option<&'static str> {
    let has = |key: &&str| !items.is_empty() && items.iter().all(|item| item.get(*key).is_some());
    ["mountPath", "containerPort", "name"].into_iter().find(|key| has(key))
}
