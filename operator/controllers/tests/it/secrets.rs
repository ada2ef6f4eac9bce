//! Pods are replaced for a Secret that a server reads when it starts, and for no other: it follows the files by itself.

use grid_operator_apply::content_hash;
use serde_json::{Value, json};

use crate::model::Model;
use crate::passes::converge;
use crate::specs::resource;

const NOTED: &str = "/metadata/annotations/grid.build~1secrets";

/// A tier with a server, and a grid that opens the tier's storages itself.
fn world(storage: &Value) -> Model {
    let model = Model::default();
    let cache = json!({"name": "memory", "lru": {"size": "1Gi"}});
    let top = json!({"name": "top", "withCache": {"cache": "memory", "fallback": "far"}});
    let mut far = storage.clone();
    far["name"] = json!("far");
    let tier = json!({"version": "1.0.0", "serve": "top", "replicas": 1, "storages": [top, cache, far]});
    model.put(resource("CasStorage", "tier", &tier));
    let grid = json!({"version": "1.0.0", "storageRef": {"name": "tier"}, "execution": {"enabled": false}});
    model.put(resource("BuildGrid", "demo", &grid));
    model.put(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "default"},
        "data": {"a": "YQ==", "ca.crt": "Yw=="}}),
    );
    model
}

fn with_token() -> Value {
    json!({"remote": {"url": "https://cas.example", "credentials": {"tokenSecretRef": {"name": "keys", "key": "a"}}}})
}

fn with_password() -> Value {
    json!({"redis": {"host": "redis", "password": {"name": "keys", "key": "a"}}})
}

/// The pod templates of tier and grid.
fn templates(model: &Model) -> [Value; 2] {
    [("deployments", "tier-server"), ("statefulsets", "demo-server")]
        .map(|(plural, name)| model.object(plural, name).unwrap()["spec"]["template"].clone())
}

async fn rotate(model: &Model, to: &str) {
    model.edit("secrets", "keys", |secret| secret["data"]["a"] = json!(to));
    converge(model).await;
}

#[tokio::test]
async fn a_token_that_a_server_reads_again_restarts_nothing() {
    let model = world(&with_token());
    converge(&model).await;
    let before = templates(&model);
    rotate(&model, "Yg==").await;
    assert_eq!(templates(&model), before);
}

#[tokio::test]
async fn a_password_that_a_server_reads_at_its_start_restarts_it() {
    let model = world(&with_password());
    converge(&model).await;
    let [tier, grid] = templates(&model);
    rotate(&model, "Yg==").await;
    let [new_tier, new_grid] = templates(&model);
    assert!(new_tier != tier && new_grid != grid, "{tier} {grid}");
}

/// An earlier operator noted every Secret: its pods go on until one of these changes, and are not replaced for another again.
#[tokio::test]
async fn pods_of_an_earlier_operator_are_replaced_for_a_secret_once_more_and_not_before() {
    let model = world(&with_token());
    converge(&model).await;
    let data = model.object("secrets", "keys").unwrap()["data"].clone();
    let value: k8s_openapi::ByteString = serde_json::from_value(data["a"].clone()).unwrap();
    let former = [content_hash(&json!({"keys": data})), content_hash(&json!(value.0))];
    let sets = [("deployments", "tier-server"), ("statefulsets", "demo-server")];
    for ((plural, name), hash) in sets.iter().zip(&former) {
        model.edit(plural, name, |set| {
            set["spec"]["template"]["metadata"]["annotations"]["grid.build/secrets"] = json!(hash);
        });
    }
    let before = templates(&model);
    converge(&model).await;
    assert_eq!(templates(&model), before);
    rotate(&model, "Yg==").await;
    let once = templates(&model);
    assert!(once.iter().all(|template| template.pointer(NOTED).is_none()), "{once:?}");
    rotate(&model, "Yw==").await;
    assert_eq!(templates(&model), once);
}

/// A grid whose callers' tokens are checked by a key of its own.
fn world_of_tokens() -> Model {
    let model = world(&with_token());
    model.edit("buildgrids", "demo", |grid| {
        grid["spec"]["authorization"] = json!({"jwt": {"keySecretRef": {"name": "keys", "key": "ca.crt"}}});
    });
    model
}

async fn rotate_key(model: &Model, to: &str) -> Value {
    model.edit("secrets", "keys", |secret| secret["data"]["ca.crt"] = json!(to));
    converge(model).await;
    let [_, grid] = templates(model);
    grid
}

#[tokio::test]
async fn a_key_of_tokens_is_followed_without_a_restart() {
    let model = world_of_tokens();
    converge(&model).await;
    let [_, before] = templates(&model);
    assert_eq!(rotate_key(&model, "ZA==").await, before);
}

#[tokio::test]
async fn pods_that_note_the_key_of_tokens_are_replaced_for_another_once_more_and_not_before() {
    let model = world_of_tokens();
    converge(&model).await;
    let data = model.object("secrets", "keys").unwrap()["data"]["ca.crt"].clone();
    let key: k8s_openapi::ByteString = serde_json::from_value(data).unwrap();
    model.edit("statefulsets", "demo-server", |set| {
        set["spec"]["template"]["metadata"]["annotations"]["grid.build/secrets"] =
            json!(content_hash(&json!(key.0)));
    });
    let [_, before] = templates(&model);
    converge(&model).await;
    let [_, kept] = templates(&model);
    assert_eq!(kept, before);
    let once = rotate_key(&model, "ZA==").await;
    assert!(once.pointer(NOTED).is_none(), "{once}");
    assert_eq!(rotate_key(&model, "ZQ==").await, once);
}
