//! The broken manifests of `e2e/bad`: refused by a rule, refused by the schema, or answered by a condition.
//!
//! Rules and conditions are checked here without a cluster, all three on a real API server where `GRID_CLUSTER` is set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_apply::Leadership;
use grid_operator_controllers::fleet::Fleets;
use grid_operator_controllers::{Context, Images, SystemMint, buildgrid, casstorage, workerpool};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{Model, NoFleet, context};

/// What is to become of a manifest.
enum Expected {
    Rule(String),
    Schema(String),
    Condition { type_: String, status: String, reason: String, message: String },
}

struct Case {
    path: PathBuf,
    documents: Vec<Value>,
    expected: Expected,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/bad");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    assert!(paths.len() >= 60, "only {} manifests", paths.len());
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let documents =
                serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap()).collect();
            let expected = expected(&std::fs::read_to_string(path.with_extension("txt")).unwrap());
            Case { path, documents, expected }
        })
        .collect()
}

fn expected(text: &str) -> Expected {
    let text = text.trim_end();
    if let Some(message) = text.strip_prefix("refused by a rule: ") {
        return Expected::Rule(message.to_owned());
    }
    if let Some(message) = text.strip_prefix("refused by the schema: ") {
        return Expected::Schema(message.to_owned());
    }
    let (head, message) = text.split_once(": ").unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    let (type_, status) = words[2].split_once('=').unwrap();
    Expected::Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: words[3].to_owned(),
        message: message.to_owned(),
    }
}

thread_local! {
    /// The rules of each kind, compiled once: that takes a hundred times as long as asking them.
    static RULES: BTreeMap<&'static str, CompiledSchema> =
        [("BuildGrid", BuildGrid::crd()), ("CasStorage", CasStorage::crd()), ("WorkerPool", WorkerPool::crd())]
            .map(|(kind, crd)| {
                let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
                (kind, compile_schema(&serde_json::to_value(schema).unwrap()))
            })
            .into();
}

/// The resource under test, if its types take it, checked by its rules.
pub(crate) fn rules(document: &Value) -> Result<(), String> {
    fn typed<K: serde::de::DeserializeOwned + serde::Serialize>(document: &Value) -> Option<Value> {
        serde_json::from_value::<K>(document.clone()).ok().map(|typed| serde_json::to_value(typed).unwrap())
    }
    let kind = document["kind"].as_str().unwrap();
    let object = match kind {
        "BuildGrid" => typed::<BuildGrid>(document),
        "CasStorage" => typed::<CasStorage>(document),
        "WorkerPool" => typed::<WorkerPool>(document),
        _ => None,
    };
    let Some(object) = object else { return Ok(()) };
    RULES.with(|rules| {
        Validator::new().validate_compiled(&rules[kind], &object, None).map_err(|errors| errors.to_string())
    })
}

#[test]
fn broken_manifests_by_rule() {
    let mut seen = 0;
    for case in cases() {
        let result = case.documents.iter().try_for_each(rules);
        match &case.expected {
            Expected::Rule(message) => {
                let said = result.expect_err(&case.path.display().to_string());
                assert!(said.contains(message), "{}: {said}", case.path.display());
                seen += 1;
            }
            Expected::Schema(_) | Expected::Condition { .. } => {
                assert_eq!(result, Ok(()), "{}", case.path.display());
            }
        }
    }
    assert!(seen >= 20);
}

#[test]
fn good_manifests_pass_every_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for case in std::fs::read_dir(folder).unwrap() {
        let path = case.unwrap().path().join("input.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            assert_eq!(rules(&Value::deserialize(document).unwrap()), Ok(()), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn broken_manifests_by_condition() {
    for case in cases() {
        let Expected::Condition { .. } = &case.expected else { continue };
        if case.path.ends_with("grid-pod-field-unknown.yaml") {
            // Only the real API server knows the fields of a pod.
            continue;
        }
        let model = Model::default();
        for document in &case.documents {
            model.put(prepared(document, "default"));
        }
        let subject = &case.documents[0];
        for document in case.documents.iter().rev() {
            let current = || model.object(plural(document), name(document));
            if let Some(object) = current() {
                let _ = reconcile(object, &context(&model)).await;
            }
        }
        let object = model.object(plural(subject), name(subject)).unwrap();
        check_condition(&case, &object);
    }
}

/// On a real API server: apply each, and look at what it says, or what the reconcilers say.
#[tokio::test]
async fn broken_manifests_on_a_cluster() {
    if std::env::var_os("GRID_CLUSTER").is_none() {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_default().await.unwrap();
    install_crds(&client).await;
    for (index, case) in cases().into_iter().enumerate() {
        let namespace = format!("bad-{}-{index}", std::process::id());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Box::pin(on_cluster(&client, &namespace, &case)).await;
        namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    }
}

async fn install_crds(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in [BuildGrid::crd(), CasStorage::crd(), WorkerPool::crd()] {
        let name = crd.metadata.name.clone().unwrap();
        api.patch(&name, &PatchParams::apply("grid-tests").force(), &Patch::Apply(&crd)).await.unwrap();
        await_condition(api.clone(), &name, conditions::is_crd_established()).await.unwrap();
    }
}

async fn on_cluster(client: &Client, namespace: &str, case: &Case) {
    let mut refused = None;
    for document in case.documents.iter().rev() {
        if let Err(error) = apply(client, namespace, document).await {
            refused = Some(error.to_string());
        }
    }
    match (&case.expected, refused) {
        (Expected::Rule(message) | Expected::Schema(message), Some(said)) => {
            assert!(said.contains(message.as_str()), "{}: {said}", case.path.display());
        }
        (Expected::Rule(_) | Expected::Schema(_), None) => panic!("{} was accepted", case.path.display()),
        (Expected::Condition { .. }, Some(said)) => panic!("{} was refused: {said}", case.path.display()),
        (Expected::Condition { .. }, None) => {
            let images = Images::new("registry.example/grid", "1.0.0");
            let context = Context::new(
                client.clone(),
                Leadership::sole(),
                images,
                Arc::new(SystemMint),
                Some("test".into()),
                Arc::new(Fleets::new(Arc::new(NoFleet), Leadership::sole())),
            );
            for document in case.documents.iter().rev() {
                let Some(api) = custom(client, namespace, document) else { continue };
                let object = api.get(name(document)).await.unwrap();
                let _ = reconcile(serde_json::to_value(object).unwrap(), &context).await;
            }
            let subject = &case.documents[0];
            let object = custom(client, namespace, subject).unwrap().get(name(subject)).await.unwrap();
            check_condition(case, &serde_json::to_value(object).unwrap());
        }
    }
}

async fn apply(client: &Client, namespace: &str, document: &Value) -> Result<(), kube::Error> {
    let document = prepared(document, namespace);
    let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
    let (group, version) = match document["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", "v1"),
    };
    let kind = document["kind"].as_str().unwrap();
    let plural = plural(&document);
    let api_version = document["apiVersion"].as_str().unwrap().to_owned();
    let resource = ApiResource {
        group: group.into(),
        version: version.into(),
        api_version,
        kind: kind.into(),
        plural: plural.into(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let params = PatchParams::apply("grid-tests").force().validation_strict();
    api.patch(name(&document), &params, &Patch::Apply(&object)).await.map(|_| ())
}

fn custom(client: &Client, namespace: &str, document: &Value) -> Option<Api<DynamicObject>> {
    let resource = match document["kind"].as_str().unwrap() {
        "BuildGrid" => BuildGrid::api_resource(),
        "CasStorage" => CasStorage::api_resource(),
        "WorkerPool" => WorkerPool::api_resource(),
        _ => return None,
    };
    Some(Api::namespaced_with(client.clone(), namespace, &resource))
}

async fn reconcile(object: Value, context: &Context) -> Result<(), String> {
    let result = match object["kind"].as_str().unwrap() {
        "BuildGrid" => buildgrid::reconcile(&serde_json::from_value(object).unwrap(), context).await,
        "CasStorage" => casstorage::reconcile(&serde_json::from_value(object).unwrap(), context).await,
        "WorkerPool" => workerpool::reconcile(&serde_json::from_value(object).unwrap(), context).await,
        _ => return Ok(()),
    };
    result.map(|_| ()).map_err(|error| error.to_string())
}

/// As the API server would keep it: in its namespace, with defaults, and secrets in base64.
fn prepared(document: &Value, namespace: &str) -> Value {
    let mut document = document.clone();
    document["metadata"]["namespace"] = json!(namespace);
    if let Some(strings) = document.as_object_mut().unwrap().remove("stringData") {
        for (key, value) in strings.as_object().unwrap() {
            let bytes = k8s_openapi::ByteString(value.as_str().unwrap().as_bytes().to_vec());
            document["data"][key] = serde_json::to_value(bytes).unwrap();
        }
    }
    document
}

fn name(document: &Value) -> &str {
    document["metadata"]["name"].as_str().unwrap()
}

fn plural(document: &Value) -> &'static str {
    match document["kind"].as_str().unwrap() {
        "BuildGrid" => "buildgrids",
        "CasStorage" => "casstorages",
        "WorkerPool" => "workerpools",
        "ConfigMap" => "configmaps",
        _ => "secrets",
    }
}

fn check_condition(case: &Case, object: &Value) {
    let Expected::Condition { type_, status, reason, message } = &case.expected else { return };
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.iter().find(|c| c["type"] == **type_);
    let condition =
        condition.unwrap_or_else(|| panic!("{}: no {type_} in {conditions:?}", case.path.display()));
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!(status), &json!(reason)),
        "{}: {condition}",
        case.path.display()
    );
    let said = condition["message"].as_str().unwrap();
    assert!(said.contains(message.as_str()), "{}: {said}", case.path.display());
}
