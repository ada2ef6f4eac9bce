//! What the API server adds to objects, refuses to change in them, and leaves out of lists.

use serde_json::{Value, json};

use super::apply;
use super::store::{Key, Refusal};

/// An object as an item of a list: there, the real one leaves out what it is.
pub(super) fn item(object: &Value) -> String {
    let mut item = object.clone();
    for field in ["apiVersion", "kind"] {
        item.as_object_mut().unwrap().remove(field);
    }
    item.to_string()
}

/// What the real one doesn't let change.
pub(super) fn check_immutable(key: &Key, old: Option<&Value>, config: &Value) -> Result<(), Refusal> {
    let Some(old) = old else { return Ok(()) };
    let fields: &[&str] = match key.1.as_str() {
        "deployments" | "statefulsets" => &["/spec/selector"],
        "jobs" => &["/spec/template"],
        "configmaps" if old["immutable"] == true => &["/data"],
        _ => &[],
    };
    for field in fields {
        if let (Some(was), Some(is)) = (old.pointer(field), config.pointer(field))
            && !apply::covers(was, is)
        {
            return Err(Refusal::new(422, "Invalid", format!("{field}: field is immutable")));
        }
    }
    Ok(())
}

/// Fields that the real one fills in.
pub(super) fn default(plural: &str, object: &mut Value) {
    if matches!(plural, "deployments" | "statefulsets" | "jobs") {
        let pod = &mut object["spec"]["template"]["spec"];
        for (field, value) in
            [("dnsPolicy", json!("ClusterFirst")), ("schedulerName", json!("default-scheduler"))]
        {
            if pod[field].is_null() {
                pod[field] = value;
            }
        }
    }
    if plural == "services" && object["spec"]["clusterIP"].is_null() {
        object["spec"]["clusterIP"] = json!("10.0.0.1");
    }
}

pub(super) fn group_version(api_version: &str) -> (String, String) {
    match api_version.split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), api_version.to_owned()),
    }
}

pub(super) fn plural(kind: &str) -> String {
    match kind {
        "Ingress" => "ingresses".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    }
}
