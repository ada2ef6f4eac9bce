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
        walk(schema.pointer("/properties/spec").unwrap(), &format!("{name} spec"), &mut unbounded);
        assert!(unbounded.is_empty(), "without bounds: {unbounded:#?}");
    }
}

fn walk(schema: &serde_json::Value, path: &str, unbounded: &mut Vec<String>) {
    // Types of Kubernetes itself bring the bounds that Kubernetes gave them.
    let of_kubernetes = [".resources", ".worker", ".runner", ".clients[]", ".databasePods"];
    if of_kubernetes.iter().any(|name| path.ends_with(name)) {
        return;
    }
    match schema["type"].as_str() {
        Some("string") if schema.get("enum").is_none() && schema.get("maxLength").is_none() => {
            unbounded.push(path.to_owned());
        }
        Some("array") => {
            if schema.get("maxItems").is_none() {
                unbounded.push(path.to_owned());
            }
            walk(&schema["items"], &format!("{path}[]"), unbounded);
        }
        Some("object") => {
            if schema.get("additionalProperties").is_some() && schema.get("maxProperties").is_none() {
                unbounded.push(path.to_owned());
            }
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                walk(property, &format!("{path}.{key}"), unbounded);
            }
        }
        _ => {}
    }
}
