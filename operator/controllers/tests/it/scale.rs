//! Many resources at rest: one pass makes what they ask for, the next one writes nothing and keeps nothing.
//!
//! `GRID_SCALE` says how many resources, `GRID_SCALE_TELL` has it print times and memory; docs/operations.md says what they were.

use std::time::Instant;

use grid_operator_controllers::{Context, buildgrid, casstorage, workerpool};
use serde_json::{Value, json};

use crate::golden::through_types;
use crate::model::{Model, context};
use crate::passes::from;

/// Resources where `GRID_SCALE` says nothing.
const RESOURCES: usize = 60;

/// Grids, tiers and pools, a third each, a namespace for each grid; none of them runs a pod.
fn resources(count: usize) -> Vec<Value> {
    let resource = |kind: &str, index: usize, name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": format!("team-{index}")});
        let object =
            json!({"apiVersion": "grid.build/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        through_types(object)
    };
    let disk = json!({"serve": "disk", "volume": {"size": "10Gi"}, "storages": [{"name": "disk", "disk": {}}], "hibernate": true});
    let grid =
        json!({"storageRef": {"name": "tier"}, "hibernate": true, "ingress": {"host": "grid.example.org"}});
    let pool = json!({"gridRef": {"name": "demo"}, "image": "gcc:12", "replicas": 0});
    let of = |index| {
        [
            resource("CasStorage", index, "tier", disk.clone()),
            resource("BuildGrid", index, "demo", grid.clone()),
            resource("WorkerPool", index, "gcc", pool.clone()),
        ]
    };
    (0..count.div_ceil(3)).flat_map(of).collect()
}

async fn reconcile(model: &Model, context: &Context, document: &Value) {
    let of = |field: &str| document["metadata"][field].as_str().unwrap().to_owned();
    let (namespace, name) = (of("namespace"), of("name"));
    let current = |plural: &str| model.object_in(plural, &namespace, &name).unwrap();
    let result = match document["kind"].as_str().unwrap() {
        "BuildGrid" => buildgrid::reconcile(&from(current("buildgrids")), context).await,
        "CasStorage" => casstorage::reconcile(&from(current("casstorages")), context).await,
        _ => workerpool::reconcile(&from(current("workerpools")), context).await,
    };
    if let Err(error) = result {
        assert!(error.is_conflict(), "{namespace}/{name}: {error}");
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn resources_at_rest_cost_no_write() {
    let count = std::env::var("GRID_SCALE").ok().map_or(RESOURCES, |text| text.parse().unwrap());
    let model = Model::default();
    let documents = resources(count);
    documents.iter().for_each(|document| model.put(document.clone()));
    // One that remembers, as the process does.
    let context = context(&model);
    for _ in 0..4 {
        for document in &documents {
            reconcile(&model, &context, document).await;
        }
        model.settle();
    }
    let (before, started) = (resident(), Instant::now());
    model.forget_writes();
    for _ in 0..3 {
        for document in &documents {
            reconcile(&model, &context, document).await;
        }
    }
    assert_eq!(model.writes(), Vec::<String>::new(), "at rest");
    if std::env::var_os("GRID_SCALE_TELL").is_some() {
        let pass = started.elapsed().as_secs_f64() / 3.0;
        let grown = i128::from(resident()) - i128::from(before);
        println!(
            "{} resources: a pass in {pass:.1} s, {grown} KiB more after three of them",
            documents.len()
        );
    }
}
