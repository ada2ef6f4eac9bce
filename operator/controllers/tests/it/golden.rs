//! Golden folders: a resource and the world around it → the objects and the status that come of them.
//!
//! Each folder of `golden/` has `input.yaml`; the first document is the resource under test. `objects.yaml` is what the
//! operator made, `status.yaml` what it says, once everything that it made has started. `GRID_BLESS=1` rewrites both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use grid_operator_apply::content_hash;
use grid_operator_controllers::{Images, buildgrid, casstorage, workerpool};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
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

fn through<K: serde::de::DeserializeOwned + Serialize>(value: Value) -> Value {
    serde_json::to_value(serde_json::from_value::<K>(value).unwrap()).unwrap()
}

/// A newer operator leaves pods alone by the revision that their template says: so templates that change must say
/// another. The file keeps what each was; `GRID_BLESS` writes it, once the revision is another.
#[test]
fn templates_that_change_are_of_another_revision() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let file = folder.join("../template-revision.yaml");
    let mut templates = BTreeMap::new();
    for case in std::fs::read_dir(&folder).unwrap().map(|case| case.unwrap()) {
        let Ok(text) = std::fs::read_to_string(case.path().join("objects.yaml")) else { continue };
        for object in serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap()) {
            if object["kind"] == "Deployment" || object["kind"] == "StatefulSet" {
                let name = object["metadata"]["name"].as_str().unwrap();
                let key = format!("{}/{name}", case.file_name().display());
                templates.insert(key, content_hash(&object["spec"]["template"]));
            }
        }
    }
    let revision = Images::new("", "").revision;
    let is = Revision { revision, templates };
    let was: Option<Revision> =
        std::fs::read_to_string(&file).ok().map(|text| serde_yaml::from_str(&text).unwrap());
    if let Some(was) = was.filter(|was| was.revision == is.revision) {
        let changed =
            was.templates.iter().find(|(name, hash)| is.templates.get(*name).is_some_and(|h| h != *hash));
        assert_eq!(changed, None, "raise names::TEMPLATE_REVISION: this pod template is another than before");
    }
    if std::env::var_os("GRID_BLESS").is_some() {
        std::fs::write(&file, serde_yaml::to_string(&is).unwrap()).unwrap();
    }
    let written: Revision = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(written, is, "run it with GRID_BLESS=1");
}

/// The templates of a revision, by golden folder and workload, as hashes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Revision {
    revision: String,
    templates: BTreeMap<String, String>,
}

/// Without what differs from run to run, and with secrets as text.
fn readable(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        metadata.remove(field);
    }
    for hash in ["grid.build/applied", "grid.build/wish"] {
        metadata["annotations"].as_object_mut().unwrap().remove(hash);
    }
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
