//! Worlds by a seed: any grid, tier and pool that the rules accept, by the schema of every field, changed to any other and back,
//! while requests are refused, answers are lost, others write in between, owners are deleted and made anew, the operator dies
//! after any write, sees old resources and is of another version for a while. In the end everything is as if nothing had
//! happened, and then nothing is written any more.
//!
//! `GRID_SEEDS` says how many seeds, `GRID_FIRST_SEED` where they begin.

use std::sync::atomic::{AtomicU64, Ordering};

use grid_operator_controllers::{buildgrid, casstorage, workerpool};
use serde_json::{Value, json};

use crate::model::{Chance, Faults, Model, context};
use crate::passes::{assert_same, condition, from, pass, shape};
use crate::rules::schema;
use crate::specs::{add_others, full, is_refused, leaves, resource, scenes};
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
    let (before, calm, other) = two_worlds(&mut chance).await;
    let wanted = shape(&calm);
    if chance.percent(40) {
        let model = world(&before);
        storm(&model, &mut chance, true).await;
        at_rest(&model).await;
        return assert_same(&shape(&model), &wanted, &format!("seed {seed}: made in a storm: {before:?}"));
    }
    let model = calm;
    change(&model, &other);
    storm(&model, &mut chance, false).await;
    if chance.percent(50) {
        at_rest(&model).await;
    }
    change(&model, &before);
    storm(&model, &mut chance, true).await;
    at_rest(&model).await;
    assert_same(&shape(&model), &wanted, &format!("seed {seed}: {before:?} to {other:?} and back"));
}

/// Passes of an operator of these templates until it has moved everything, and nothing is written any more.
async fn at_rest(model: &Model) {
    Operator::over(model, &own_revision()).finish(model).await;
}

/// Passes in which anything may go wrong. A resource that is made anew gets volumes of its own, which can't become others.
async fn storm(model: &Model, chance: &mut Chance, may_be_recreated: bool) {
    let seen: Vec<(&str, Value)> = RESOURCES
        .iter()
        .filter_map(|(plural, _, name)| Some((*plural, model.object(plural, name)?)))
        .collect();
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
        if chance.percent(8) && may_be_recreated {
            recreate(model, chance.below(RESOURCES.len()));
        }
        if chance.percent(60) {
            model.settle();
        }
    }
    model.faults(None);
}

/// Someone deletes a resource, with all that it owns, and makes it anew: what the operator remembers is of another.
fn recreate(model: &Model, which: usize) {
    let (plural, kind, name) = RESOURCES[which];
    let spec = model.object(plural, name).unwrap()["spec"].take();
    model.delete(plural, name);
    model.put(resource(kind, name, &spec));
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

/// Plural, kind and name.
const RESOURCES: [(&str, &str, &str); 3] = [
    ("casstorages", "CasStorage", "tier"),
    ("buildgrids", "BuildGrid", "demo"),
    ("workerpools", "WorkerPool", "gcc"),
];

/// A spec for each of the three.
type Specs = [Value; 3];

fn world(specs: &Specs) -> Model {
    let model = Model::default();
    add_others(&model);
    for ((_, kind, name), spec) in RESOURCES.iter().zip(specs) {
        model.put(resource(kind, name, spec));
    }
    model
}

fn change(model: &Model, specs: &Specs) {
    for ((plural, kind, name), spec) in RESOURCES.iter().zip(specs) {
        model.edit(plural, name, |object| object["spec"] = resource(kind, name, spec)["spec"].take());
    }
}

/// Two states of the world, of which each may be changed into the other; the first has nothing that is wrong or that waits.
async fn two_worlds(chance: &mut Chance) -> (Specs, Model, Specs) {
    let mut before = RESOURCES.map(|(_, kind, _)| any(kind, chance, None, is_at_once));
    loop {
        let calm = world(&before);
        at_rest(&calm).await;
        let mut is_well = true;
        for ((plural, kind, name), spec) in RESOURCES.iter().zip(&mut before) {
            if condition(&calm, plural, name, "Degraded")["status"] == "True" {
                is_well = false;
                *spec = any(kind, chance, None, is_at_once);
            }
        }
        if !is_well {
            continue;
        }
        let mut pairs = RESOURCES.iter().zip(&before);
        let other = std::array::from_fn(|_| {
            let ((_, kind, _), before) = pairs.next().unwrap();
            any(kind, chance, Some(before), |spec| {
                spec["maintenance"].is_null()
                    && !is_refused(kind, spec, Some(before))
                    && !is_refused(kind, before, Some(spec))
            })
        });
        return (before, calm, other);
    }
}

/// It is brought about: not paused, and no window has to open, which is `rollouts`' to look at.
fn is_at_once(spec: &Value) -> bool {
    spec["paused"] != true && spec["maintenance"].is_null()
}

/// A spec of that kind that the rules accept: one in which much occurs, of which fields are left out and others changed.
fn any(kind: &str, chance: &mut Chance, like: Option<&Value>, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let of_kind = scenes().into_iter().filter(|(of, _)| *of == kind).map(|(_, spec)| spec);
    // A volume is never another: little but what is like it can follow a resource that has one.
    let scenes: Vec<Value> = of_kind.chain(like.cloned()).collect();
    let required = schema(kind)["required"].as_array().cloned().unwrap_or_default();
    for _ in 0..10_000 {
        let mut spec = full(kind, &scenes[chance.below(scenes.len())]);
        // What the number of pods is then, depends on what was before: `scaling` looks at that.
        spec.as_object_mut().unwrap().remove("autoscaling");
        for leaf in leaves(kind, Some(&spec)) {
            // A version that isn't given is the one that was there before.
            if leaf.path != "version" && chance.percent(4) {
                spec = leaf.changed(&spec);
            }
        }
        let fields: Vec<String> = spec.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            if field != "version" && !required.contains(&json!(field)) && chance.percent(30) {
                spec.as_object_mut().unwrap().remove(&field);
            }
        }
        let spec = full(kind, &spec);
        if !is_refused(kind, &spec, None) && is_wanted(&spec) {
            return spec;
        }
    }
    panic!("no {kind} in ten thousand is wanted");
}
