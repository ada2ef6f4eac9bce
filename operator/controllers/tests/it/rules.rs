//! The CEL rules of the CRDs, asked as the API server asks them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use kube::CustomResourceExt;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

thread_local! {
    /// The rules of each kind, compiled once: that takes a hundred times as long as asking them.
    static RULES: BTreeMap<&'static str, CompiledSchema> =
        SCHEMAS.iter().map(|(kind, schema)| (*kind, compile_schema(schema))).collect();
}

/// The schema of each kind, all of the resource.
static SCHEMAS: LazyLock<[(&str, Value); 3]> = LazyLock::new(|| {
    [("BuildGrid", BuildGrid::crd()), ("CasStorage", CasStorage::crd()), ("WorkerPool", WorkerPool::crd())]
        .map(|(kind, crd)| {
            let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            (kind, serde_json::to_value(schema).unwrap())
        })
});

/// The schema of a kind's spec.
pub(crate) fn schema(kind: &str) -> &'static Value {
    let (_, schema) = SCHEMAS.iter().find(|(name, _)| *name == kind).unwrap();
    &schema["properties"]["spec"]
}

/// Each rule's message, with the kind and the field that it is of. The rules about what was before are told apart.
pub(crate) fn messages() -> Vec<Rule> {
    let mut found = vec![];
    for (kind, schema) in &*SCHEMAS {
        walk(schema, kind, &mut found);
    }
    found
}

/// A rule of a CRD.
pub(crate) struct Rule {
    pub(crate) place: String,
    pub(crate) message: String,
    /// It compares with what was before.
    pub(crate) is_of_changes: bool,
}

fn walk(schema: &Value, place: &str, found: &mut Vec<Rule>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.push(Rule {
            place: place.to_owned(),
            message: rule["message"].as_str().unwrap().to_owned(),
            is_of_changes: rule["rule"].as_str().unwrap().contains("oldSelf"),
        });
    }
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        walk(schema, &format!("{place}.{field}"), found);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{place}[]"), found);
    }
}

/// What the rules say of a new resource.
pub(crate) fn check(document: &Value) -> Result<(), String> {
    check_change(document, None)
}

/// What they say of a resource that was another before.
pub(crate) fn check_change(document: &Value, before: Option<&Value>) -> Result<(), String> {
    broken(document, before).map_err(|messages| messages.join("; "))
}

/// The messages of the rules that a resource breaks. What is of another kind, or none of the types', breaks none.
pub(crate) fn broken(document: &Value, before: Option<&Value>) -> Result<(), Vec<String>> {
    let Some(object) = defaulted(document) else { return Ok(()) };
    let before = before.and_then(defaulted);
    RULES.with(|rules| {
        let rules = &rules[document["kind"].as_str().unwrap()];
        let answer = Validator::new().validate_compiled(rules, &object, before.as_ref());
        answer.map_err(|errors| errors.as_slice().iter().map(ToString::to_string).collect())
    })
}

/// A resource as the API server would keep it: with its defaults.
fn defaulted(document: &Value) -> Option<Value> {
    fn through<K: DeserializeOwned + Serialize>(document: &Value) -> Option<Value> {
        let typed = serde_json::from_value::<K>(document.clone()).ok()?;
        Some(serde_json::to_value(typed).unwrap())
    }
    match document["kind"].as_str().unwrap() {
        "BuildGrid" => through::<BuildGrid>(document),
        "CasStorage" => through::<CasStorage>(document),
        "WorkerPool" => through::<WorkerPool>(document),
        _ => None,
    }
}
