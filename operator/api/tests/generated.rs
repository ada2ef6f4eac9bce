//! The committed CRDs are what the types say. `GRID_BLESS=1` rewrites them.

use std::path::Path;

#[test]
fn generated_crds_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, yaml) in grid_operator_api::crds().unwrap() {
        for folder in ["crds", "charts/grid-operator/files/crds"] {
            let path = root.join(folder).join(&name);
            if std::env::var_os("GRID_BLESS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &yaml).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(committed, yaml, "{folder}/{name} is not current: run `cargo xtask codegen`");
        }
    }
}

/// Who adds an annotation to the pods need not speak of their containers.
#[test]
fn a_pod_template_may_have_metadata_alone() {
    for (name, yaml) in grid_operator_api::crds().unwrap() {
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let template = &spec["properties"]["podTemplate"];
        assert_eq!(template["properties"]["spec"]["type"], "object", "{name}");
        assert_eq!(template["required"], serde_json::Value::Null, "{name}");
    }
}

/// What the API server asks of a structural schema with CEL, and a client-side apply of its annotations.
#[test]
fn schemas_are_bounded_and_small() {
    for (name, yaml) in grid_operator_api::crds().unwrap() {
        assert!(
            yaml.len() < 262_144,
            "{name} has {} bytes: too large for kubectl apply's annotation",
            yaml.len()
        );
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut unbounded = vec![];
        for part in ["spec", "status"] {
            let schema = schema.pointer(&format!("/properties/{part}")).unwrap();
            walk(schema, &format!("{name} {part}"), &mut unbounded);
        }
        assert!(unbounded.is_empty(), "without bounds: {unbounded:#?}");
    }
}

fn walk(schema: &serde_json::Value, path: &str, unbounded: &mut Vec<String>) {
    match schema["type"].as_str() {
        // A time has the length of times.
        Some("string") if ["enum", "maxLength", "format"].iter().all(|key| schema.get(key).is_none()) => {
            unbounded.push(path.to_owned());
        }
        Some("array") => {
            if schema.get("maxItems").is_none() {
                unbounded.push(path.to_owned());
            }
            walk(&schema["items"], &format!("{path}[]"), unbounded);
        }
        Some("object") => {
            if let Some(values) = schema.get("additionalProperties") {
                if schema.get("maxProperties").is_none() {
                    unbounded.push(path.to_owned());
                }
                walk(values, &format!("{path}{{}}"), unbounded);
            }
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                walk(property, &format!("{path}.{key}"), unbounded);
            }
        }
        _ => {}
    }
}
