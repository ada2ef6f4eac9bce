//! Golden folders: a resource and the world around it → the objects and the status that come of them.
//!
//! Each folder of `golden/` has `input.yaml`; the first document is the resource under test. `objects.yaml` is what the
//! operator made, `status.yaml` what it says, once everything that it made has started. `GRID_BLESS=1` rewrites both.

use std::path::{Path, PathBuf};

use grid_operator_controllers::{buildgrid, casstorage, workerpool};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{Model, context};

#[tokio::test]
async fn every_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut wrong = vec![];
    for case in cases {
        let (objects, status) = run(&case).await;
        for (name, is) in [("objects.yaml", objects), ("status.yaml", status)] {
            let path = case.join(name);
            if std::env::var_os("GRID_BLESS").is_some() {
                std::fs::write(&path, &is).unwrap();
            }
            let wanted = std::fs::read_to_string(&path).unwrap_or_default();
            if is != wanted {
                wrong.push(format!("{}:\n{}", path.display(), first_difference(&wanted, &is)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "not as in the golden files (GRID_BLESS=1 rewrites them):\n{}",
        wrong.join("\n")
    );
}

/// Reconciles until the world stands still; the objects and the status as YAML.
async fn run(case: &Path) -> (String, String) {
    let documents = load(&case.join("input.yaml"));
    let model = Model::default();
    for document in &documents {
        model.put(document.clone());
    }
    // Grids and storages that the resource refers to come to be ready first.
    for document in documents.iter().rev() {
        for _ in 0..4 {
            reconcile(&model, document).await;
            model.settle();
        }
    }
    model.forget_writes();
    reconcile(&model, &documents[0]).await;
    assert!(
        model.writes().is_empty(),
        "{}: a pass over a world at rest wrote {:?}",
        case.display(),
        model.writes()
    );

    let subject = &documents[0];
    let kind = &subject["kind"];
    let mut objects = vec![];
    for object in model.objects().into_values() {
        if object["metadata"]["labels"]["grid.build/kind"] == *kind
            && object["metadata"]["labels"]["app.kubernetes.io/instance"] == subject["metadata"]["name"]
        {
            objects.push(serde_yaml::to_string(&readable(object)).unwrap());
        }
    }
    let subject = model.object(plural(kind), subject["metadata"]["name"].as_str().unwrap()).unwrap();
    (objects.join("---\n"), serde_yaml::to_string(&subject["status"]).unwrap())
}

/// One pass over the resource as the model has it.
pub(crate) async fn reconcile(model: &Model, document: &Value) {
    let name = document["metadata"]["name"].as_str().unwrap();
    let Some(current) = model.object(plural(&document["kind"]), name) else { return };
    let context = context(model);
    let result = match document["kind"].as_str().unwrap() {
        "BuildGrid" => buildgrid::reconcile(&serde_json::from_value(current).unwrap(), &context).await,
        "CasStorage" => casstorage::reconcile(&serde_json::from_value(current).unwrap(), &context).await,
        "WorkerPool" => workerpool::reconcile(&serde_json::from_value(current).unwrap(), &context).await,
        _ => return,
    };
    // A finalizer that was set makes what was read before stale: the next pass goes on.
    if let Err(error) = result {
        assert!(error.is_conflict(), "{name}: {error}");
    }
}

pub(crate) fn plural(kind: &Value) -> &'static str {
    match kind.as_str().unwrap() {
        "BuildGrid" => "buildgrids",
        "CasStorage" => "casstorages",
        "WorkerPool" => "workerpools",
        _ => "",
    }
}

/// The documents, with the defaults that the API server would fill in.
fn load(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| through_types(Value::deserialize(document).unwrap()))
        .collect()
}

/// A document as the API server would keep it: with its defaults.
pub(crate) fn through_types(value: Value) -> Value {
    match value["kind"].as_str().unwrap() {
        "BuildGrid" => through::<grid_operator_api::BuildGrid>(value),
        "CasStorage" => through::<grid_operator_api::CasStorage>(value),
        "WorkerPool" => through::<grid_operator_api::WorkerPool>(value),
        _ => value,
    }
}

fn through<K: serde::de::DeserializeOwned + serde::Serialize>(value: Value) -> Value {
    serde_json::to_value(serde_json::from_value::<K>(value).unwrap()).unwrap()
}

/// Without what differs from run to run, and with secrets as text.
fn readable(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        metadata.remove(field);
    }
    metadata["annotations"].as_object_mut().unwrap().remove("grid.build/applied");
    metadata["ownerReferences"][0]["uid"] = json!("UID");
    if metadata["annotations"].as_object().unwrap().is_empty() {
        metadata.remove("annotations");
    }
    object.as_object_mut().unwrap().remove("status");
    let is_secret = object["kind"] == "Secret";
    for value in object["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
        let text = if is_secret {
            let bytes: ByteString = serde_json::from_value(value.clone()).unwrap();
            String::from_utf8(bytes.0).unwrap()
        } else {
            value.as_str().unwrap().to_owned()
        };
        *value = json!(if text.starts_with("-----BEGIN") { "PEM" } else { &text });
    }
    object
}

fn first_difference(wanted: &str, is: &str) -> String {
    let (mut wanted, mut is) = (wanted.lines(), is.lines());
    for line in 1.. {
        match (wanted.next(), is.next()) {
            (None, None) => break,
            (w, i) if w == i => {}
            (w, i) => {
                return format!(
                    "  line {line}\n  wanted: {}\n  is:     {}",
                    w.unwrap_or("(end)"),
                    i.unwrap_or("(end)")
                );
            }
        }
    }
    String::new()
}
