//! Worlds by a seed: any grid, tier and pool that the rules accept, changed to any other and back, while requests are
//! refused, answers are lost, others write in between, the operator dies after any write, sees old resources and is of
//! another version for a while. In
//! the end everything is as if nothing had happened, and then nothing is written any more.
//!
//! `GRID_SEEDS` says how many seeds, `GRID_FIRST_SEED` where they begin.

use std::sync::atomic::{AtomicU64, Ordering};

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_controllers::{buildgrid, casstorage, workerpool};
use serde_json::{Value, json};

use crate::broken::rules;
use crate::model::{Chance, Faults, Model, context};
use crate::passes::{assert_same, from, pass, shape, to};
use crate::upgrade::{NEXT, Operator, own_revision};

/// Seeds where `GRID_SEEDS` says nothing.
const SEEDS: u64 = 500;

#[test]
fn whatever_happens_in_between_the_end_is_the_same() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("GRID_FIRST_SEED").unwrap_or(0);
    let end = first + number("GRID_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let worlds = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            runtime.block_on(one(seed));
        }
    };
    // No world knows of another: each thread takes the next seed.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worlds))));
}

async fn one(seed: u64) {
    let mut chance = Chance::new(seed);
    let (before, other) = (specs(&mut chance), specs(&mut chance));
    let calm = world(&before);
    at_rest(&calm).await;
    let wanted = shape(&calm);
    if chance.percent(40) {
        let model = world(&before);
        storm(&model, &mut chance).await;
        at_rest(&model).await;
        return assert_same(&shape(&model), &wanted, &format!("seed {seed}: made in a storm: {before:?}"));
    }
    let model = calm;
    change(&model, &other);
    storm(&model, &mut chance).await;
    if chance.percent(50) {
        at_rest(&model).await;
    }
    change(&model, &before);
    storm(&model, &mut chance).await;
    at_rest(&model).await;
    assert_same(&shape(&model), &wanted, &format!("seed {seed}: {before:?} to {other:?} and back"));
}

/// Passes of an operator of these templates until it has moved everything, and nothing is written any more.
async fn at_rest(model: &Model) {
    Operator::over(model, &own_revision()).finish(model).await;
}

/// Passes in which anything may go wrong.
async fn storm(model: &Model, chance: &mut Chance) {
    let seen: Vec<(&str, Value)> =
        RESOURCES.iter().filter_map(|(plural, name)| Some((*plural, model.object(plural, name)?))).collect();
    for _ in 0..2 + chance.below(4) {
        model.faults(Some(Faults::new(chance.below(1 << 30) as u64, 3 + chance.below(20))));
        if chance.percent(30) {
            model.crash_after(Some(chance.below(40)));
        }
        if chance.percent(20) {
            // A watch that lags behind: what is reconciled is no longer what the user wants.
            stale(model, &seen).await;
        }
        if chance.percent(25) {
            // An upgrade that doesn't last.
            Operator::over(model, NEXT).pass(model).await;
        } else {
            pass(model).await;
        }
        model.crash_after(None);
        if chance.percent(60) {
            model.settle();
        }
    }
    model.faults(None);
}

async fn stale(model: &Model, seen: &[(&str, Value)]) {
    let context = context(model);
    for (plural, object) in seen {
        let object = object.clone();
        let _ = match *plural {
            "casstorages" => casstorage::reconcile(&from(object), &context).await,
            "buildgrids" => buildgrid::reconcile(&from(object), &context).await,
            _ => workerpool::reconcile(&from(object), &context).await,
        };
    }
}

const RESOURCES: [(&str, &str); 3] =
    [("casstorages", "tier"), ("buildgrids", "demo"), ("workerpools", "gcc")];

/// A spec for each of the three.
type Specs = [Value; 3];

fn world(specs: &Specs) -> Model {
    let model = Model::default();
    for (name, data) in [
        ("db", json!({"uri": "cG9zdGdyZXNxbDovL2dyaWQ6c2VjcmV0QGRiL2dyaWQ="})),
        ("jwt", json!({"key": "YQ=="})),
        ("cert", json!({"tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="})),
    ] {
        let metadata = json!({"name": name, "namespace": "default"});
        model.put(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}));
    }
    for ((_, name), (kind, spec)) in
        RESOURCES.iter().zip(["CasStorage", "BuildGrid", "WorkerPool"].iter().zip(specs))
    {
        model.put(resource(kind, name, spec));
    }
    model
}

fn change(model: &Model, specs: &Specs) {
    for ((plural, name), spec) in RESOURCES.iter().zip(specs) {
        let kind = model.object(plural, name).unwrap()["kind"].as_str().unwrap().to_owned();
        let wanted = resource(&kind, name, spec);
        model.edit(plural, name, |object| object["spec"] = wanted["spec"].clone());
    }
}

/// As the API server would keep it: with its defaults.
fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default"});
    let value =
        json!({"apiVersion": "grid.build/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    match kind {
        "BuildGrid" => to(&from::<BuildGrid>(value)),
        "CasStorage" => to(&from::<CasStorage>(value)),
        _ => to(&from::<WorkerPool>(value)),
    }
}

/// Makes a spec that may or may not be valid.
type Generate = fn(&mut Chance) -> Value;

/// Specs that the rules accept.
fn specs(chance: &mut Chance) -> Specs {
    let kinds: [(&str, Generate); 3] = [("CasStorage", tier), ("BuildGrid", grid), ("WorkerPool", pool)];
    let mut specs = kinds.map(|(kind, generate)| {
        for _ in 0..1_000 {
            let spec = generate(chance);
            if rules(&resource(kind, "x", &spec)) == Ok(()) {
                return spec;
            }
        }
        panic!("no {kind} in a thousand is valid");
    });
    if specs[1]["execution"]["enabled"] == false {
        // A grid without execution has no work for a pool, which then keeps what it had: nothing to compare.
        let elsewhere = &mut specs[2];
        elsewhere["gridRef"] = json!({"address": "https://grid.example:443"});
    }
    specs
}

/// Each of these fields by chance; two may be of one name, of which the last counts.
fn some_of(chance: &mut Chance, fixed: Value, optional: &[(&str, Value)]) -> Value {
    let mut spec = fixed;
    for (field, value) in optional {
        if chance.percent(35) {
            spec[field] = value.clone();
        }
    }
    spec
}

fn grid(chance: &mut Chance) -> Value {
    let replicas = json!({"replicas": 2});
    let fixed = json!({"version": "1.0.0"});
    some_of(
        chance,
        fixed,
        &[
            ("database", json!({"secretRef": {"name": "db", "key": "uri"}})),
            ("topology", json!("split")),
            ("storageRef", json!({"name": "tier"})),
            ("storage", json!({"deletionPolicy": "Delete"})),
            ("instances", json!(["", "main"])),
            ("services", json!({"server": replicas})),
            ("services", json!({"execution": replicas, "cas": replicas, "bots": replicas})),
            ("execution", json!({"enabled": false})),
            (
                "execution",
                json!({"matchPropertyKeys": ["a"], "wildcardPropertyKeys": ["b"], "maxExecutionTimeout": "1h", "refuseUnplaceableAfter": "5m"}),
            ),
            ("actionCache", json!({"lru": {"maxEntries": 10}})),
            (
                "actionCache",
                json!({"sql": {"maxEntries": 10, "expireUnusedAfter": "30d"}, "writeOnce": true, "allowUpdates": false}),
            ),
            ("actionCache", json!({"remote": {"url": "https://cache.example", "instanceName": "a"}})),
            ("remoteAsset", json!({"fetch": false})),
            ("gateway", json!({"host": "grid.example.org", "parentRefs": [{"name": "public"}]})),
            ("ingress", json!({"host": "grid.example.org", "className": "nginx", "annotations": {"a": "b"}})),
            ("tls", json!({"disabled": {}})),
            ("tls", json!({"secretRef": {"name": "cert"}})),
            ("tls", json!({"certManager": {"issuerRef": {"name": "ca"}}})),
            (
                "authorization",
                json!({"jwt": {"keySecretRef": {"name": "jwt", "key": "key"}}, "openInstances": [""]}),
            ),
            ("mutualTls", json!({"selfSigned": {"validity": "30d"}})),
            ("mutualTls", json!({"certManager": {"issuerRef": {"name": "ca"}}})),
            ("networkPolicy", json!({"enabled": false})),
            (
                "networkPolicy",
                json!({"clients": [{"podSelector": {}}], "databasePods": {"matchLabels": {"a": "b"}}}),
            ),
            ("monitoring", json!({"alerts": false, "labels": {"a": "b"}})),
            (
                "podTemplate",
                json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {"a": "b"}}}),
            ),
            ("hibernate", json!(true)),
        ],
    )
}

fn tier(chance: &mut Chance) -> Value {
    let disk = json!({"version": "1.0.0", "serve": "disk", "volume": {"size": "10Gi"}, "storages": [{"name": "disk", "disk": {}}]});
    some_of(
        chance,
        disk,
        &[
            (
                "storages",
                json!([{"name": "disk", "withCache": {"cache": "fast", "fallback": "slow"}}, {"name": "fast", "lru": {"size": "1Gi"}}, {"name": "slow", "disk": {}}]),
            ),
            ("deletionPolicy", json!("Delete")),
            ("mutualTls", json!({"selfSigned": {}})),
            ("mutualTls", json!({"secretRefs": {"server": {"name": "cert"}, "client": {"name": "cert"}}})),
            ("networkPolicy", json!(false)),
            ("resources", json!({"limits": {"memory": "1Gi"}})),
            ("podTemplate", json!({"spec": {"priorityClassName": "high"}})),
            ("hibernate", json!(true)),
        ],
    )
}

/// Without autoscaling, whose number of pods depends on what was before: `scaling` looks at that.
fn pool(chance: &mut Chance) -> Value {
    some_of(
        chance,
        json!({"version": "1.0.0", "gridRef": {"name": "demo"}, "image": "gcc:12"}),
        &[
            (
                "gridRef",
                json!({"address": "https://grid.example:443", "casAddress": "https://cas.example:443"}),
            ),
            ("image", json!("gcc:14")),
            ("replicas", json!(3)),
            ("concurrency", json!(4)),
            ("priority", json!(7)),
            ("isolation", json!("chroot")),
            ("isolation", json!("bubblewrap")),
            ("runtime", json!("buildbox")),
            ("allowNetwork", json!(true)),
            ("limits", json!({"memory": "1Gi", "processes": 100})),
            ("egress", json!("open")),
            ("properties", json!([{"name": "os", "value": "$x"}])),
            ("cache", json!({"size": "1Gi", "storageClassName": "fast"})),
            ("resources", json!({"worker": {"limits": {"cpu": "1"}}, "runner": {"limits": {"cpu": "2"}}})),
            ("gracePeriodSeconds", json!(30)),
            ("podTemplate", json!({"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}})),
        ],
    )
}
