//! The manifests of `examples/`: valid, ready once their pods are, and over configurations that grid-server reads.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::configuration::assert_readable;
use crate::golden::{reconcile, through_types};
use crate::model::Model;
use crate::rules;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    paths
}

/// The Secrets that the examples name, as the e2e cluster has them.
fn secrets() -> [Value; 2] {
    [("postgres-app", json!({"uri": "cG9zdGdyZXNxbDovL2dyaWQ6c2VjcmV0QGRiL2dyaWQ="})), ("s3", json!({"access-key-id": "YQ==", "secret-access-key": "Yg=="}))]
        .map(|(name, data)| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "data": data}))
}

#[tokio::test]
async fn each_becomes_ready() {
    let paths = examples();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let model = Model::default();
        secrets().into_iter().for_each(|secret| model.put(secret));
        let mut documents = vec![];
        for document in serde_yaml::Deserializer::from_str(&text) {
            let mut written = Value::deserialize(document).unwrap();
            assert_eq!(rules::check(&written), Ok(()), "{}", path.display());
            written["metadata"]["namespace"] = json!("default");
            let read = through_types(written.clone());
            assert_kept(&written, &read, &path.display().to_string());
            model.put(read.clone());
            documents.push(read);
        }
        for _ in 0..5 {
            for document in &documents {
                reconcile(&model, document).await;
                model.settle();
            }
        }
        for document in &documents {
            let (kind, name) =
                (document["kind"].as_str().unwrap(), document["metadata"]["name"].as_str().unwrap());
            let object = model.object(crate::golden::plural(&document["kind"]), name).unwrap();
            let ready =
                object["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready");
            assert_eq!(ready.unwrap()["status"], "True", "{}: {kind} {name}: {ready:?}", path.display());
        }
        for object in model.objects().into_values() {
            if let Some(yaml) = object["data"]["server.yml"].as_str() {
                assert_readable(yaml, &path);
            }
        }
    }
}

/// Whatever is written in the manifest is a field that the types have.
fn assert_kept(written: &Value, read: &Value, at: &str) {
    match (written, read) {
        (Value::Object(written), Value::Object(_)) => {
            for (key, value) in written {
                assert_kept(value, &read[key], &format!("{at}.{key}"));
            }
        }
        (Value::Array(written), Value::Array(items)) => {
            assert_eq!(written.len(), items.len(), "{at}");
            written.iter().zip(items).for_each(|(w, r)| assert_kept(w, r, at));
        }
        (written, read) => assert_eq!(written, read, "{at}"),
    }
}
