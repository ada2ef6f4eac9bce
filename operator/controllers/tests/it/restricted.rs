//! Every pod of the golden folders is one that the restricted Pod Security profile admits.
//!
//! With `GRID_CLUSTER` set the real admission plugin is asked; without, the fields that it asks for are looked at.

use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec, PodTemplateSpec, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

/// The pod templates of all golden objects, with where they are from.
fn templates() -> Vec<(String, PodTemplateSpec)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut templates = vec![];
    for case in std::fs::read_dir(folder).unwrap() {
        let path = case.unwrap().path().join("objects.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let spec = &object["spec"];
            let template = spec.get("template").or_else(|| spec["jobTemplate"]["spec"].get("template"));
            if let Some(template) = template {
                let from = format!("{} {} {}", path.display(), object["kind"], object["metadata"]["name"]);
                templates.push((from, serde_json::from_value(template.clone()).unwrap()));
            }
        }
    }
    assert!(templates.len() > 10);
    templates
}

/// The Pod Security Standard that a folder's pools need, by the isolation that its input asks for.
fn standard(from: &str) -> &'static str {
    let (folder, _) = from.split_once("/objects.yaml").unwrap();
    let input = std::fs::read_to_string(format!("{folder}/input.yaml")).unwrap();
    match input.lines().find_map(|line| line.trim().strip_prefix("isolation: ")) {
        Some("bubblewrap") => "privileged",
        Some("chroot") => "baseline",
        _ => "restricted",
    }
}

#[test]
fn restricted_by_their_fields() {
    for (from, template) in templates() {
        let spec = template.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false), "{from}");
        let pod = spec.security_context.clone().unwrap();
        assert_eq!(pod.run_as_non_root, Some(true), "{from}");
        assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault", "{from}");
        assert!(containers(&spec).count() > 0);
        // What the modes of isolation need is looked at in their own golden files, and asked of the real plug-in.
        let is_isolated = standard(&from) != "restricted";
        for container in containers(&spec).filter(|c| !(is_isolated && c.name == "runner")) {
            let security = container.security_context.clone().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false), "{from}");
            assert_eq!(security.read_only_root_filesystem, Some(true), "{from}");
            assert_eq!(security.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]), "{from}");
        }
    }
}

/// Only grid-worker has the token, and no runner sees any Secret.
#[test]
fn a_runner_mounts_no_secret() {
    for (from, template) in templates() {
        let spec = template.spec.unwrap();
        let secrets: Vec<&str> =
            spec.volumes.iter().flatten().filter(|v| v.secret.is_some()).map(|v| v.name.as_str()).collect();
        for container in containers(&spec).filter(|c| matches!(c.name.as_str(), "runner" | "install-runner"))
        {
            for mount in container.volume_mounts.iter().flatten() {
                assert!(!secrets.contains(&mount.name.as_str()), "{from}: {}", mount.mount_path);
                // What installs runs before any action, and from the worker's image.
                let may = container.name == "install-runner" || mount.sub_path.is_some();
                assert!(mount.name != "grid" || may, "{from}: {}", mount.mount_path);
            }
        }
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

#[tokio::test]
async fn restricted_on_a_cluster() {
    if std::env::var_os("GRID_CLUSTER").is_none() {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_default().await.unwrap();
    for level in ["restricted", "baseline", "privileged"] {
        let name = format!("{level}-{}", std::process::id());
        let of_level = templates().into_iter().filter(|(from, _)| standard(from) == level);
        admitted(&client, &name, level, of_level).await;
    }
}

/// A namespace of that level takes the pods.
async fn admitted(
    client: &Client,
    name: &str,
    level: &str,
    templates: impl Iterator<Item = (String, PodTemplateSpec)>,
) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name,
        "labels": {"pod-security.kubernetes.io/enforce": level}}}))
    .unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for (index, (from, template)) in templates.enumerate() {
        let account = format!("account-{index}");
        let metadata = ObjectMeta { name: Some(account.clone()), ..ObjectMeta::default() };
        let object = ServiceAccount { metadata: metadata.clone(), ..ServiceAccount::default() };
        accounts.create(&PostParams::default(), &object).await.unwrap();
        let spec = PodSpec { service_account_name: Some(account), ..with_claims(template.spec.unwrap()) };
        let pod = Pod { metadata, spec: Some(spec), status: None };
        pods.create(&dry_run, &pod).await.unwrap_or_else(|error| panic!("{from}: {error}"));
    }
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
}

/// A StatefulSet adds the volumes of its claims; here an empty one stands for them.
fn with_claims(mut spec: PodSpec) -> PodSpec {
    let volumes = spec.volumes.get_or_insert_default();
    if !volumes.iter().any(|volume| volume.name == "data") {
        volumes.push(serde_json::from_value(json!({"name": "data", "emptyDir": {}})).unwrap());
    }
    spec
}
