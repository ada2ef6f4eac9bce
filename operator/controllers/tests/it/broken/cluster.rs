//! The same on a real API server, and that it takes what is as it should be.

use std::sync::Arc;

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_apply::Leadership;
use grid_operator_controllers::fleet::Fleets;
use grid_operator_controllers::{Context, Images, SystemMint};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt};
use serde_json::Value;

use super::{Case, Expected, cases, check_condition, good, name, plural, prepared, reconcile};
use crate::model::NoFleet;

/// On a real API server: apply each, and look at what it says, or what the reconcilers say.
#[tokio::test]
async fn broken_manifests_on_a_cluster() {
    if std::env::var_os("GRID_CLUSTER").is_none() {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_default().await.unwrap();
    install_crds(&client).await;
    for (path, document) in good() {
        if custom(&client, "default", &document).is_some() {
            let taken = apply(&client, "default", &document, true).await;
            assert!(taken.is_ok(), "{}: {taken:?}", path.display());
        }
    }
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
    if let Some(before) = &case.before {
        apply(client, namespace, before, false).await.unwrap();
    }
    let mut refused = None;
    for document in case.documents.iter().rev() {
        if let Err(error) = apply(client, namespace, document, false).await {
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

/// Applies a manifest, or only asks whether it would be taken.
async fn apply(client: &Client, namespace: &str, document: &Value, asks: bool) -> Result<(), kube::Error> {
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
    let params =
        PatchParams { dry_run: asks, ..PatchParams::apply("grid-tests").force().validation_strict() };
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
