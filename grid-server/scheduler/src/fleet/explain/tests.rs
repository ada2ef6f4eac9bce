//! What is said of a job that waits, for each reason there is.

use super::super::testing::{bot, pool, requirement, view};
use super::*;
use crate::fleet::Pool;
use crate::session::BotStatus;

const LINUX: &[(&str, &str)] = &[("OSFamily", "linux"), ("ISA", "x86-64")];

fn reason(pools: Vec<Pool>, bots: Vec<(crate::session::Session, u32)>) -> WaitReason {
    explain(&view(pools, bots), &requirement(&[("ISA", "x86-64")])).reason
}

#[test]
fn each_state_of_a_pool_has_its_reason() {
    let linux = || pool("n/linux", LINUX);
    let busy = || (bot("b", "n/linux", &[]), 2);
    let sick = || {
        let mut sick = bot("s", "n/linux", &[]);
        sick.status = BotStatus::Unhealthy;
        (sick, 0)
    };
    let full = || Pool { max_workers: 1, ..linux() };
    let fixed = || Pool { autoscaled: false, ..linux() };
    assert_eq!(reason(vec![linux()], vec![(bot("b", "n/linux", &[]), 1)]), WaitReason::BehindOthers);
    assert_eq!(reason(vec![linux()], vec![]), WaitReason::ScalingUp);
    assert_eq!(reason(vec![linux()], vec![busy()]), WaitReason::ScalingUp);
    assert_eq!(reason(vec![full()], vec![busy()]), WaitReason::PoolAtMaximum);
    assert_eq!(reason(vec![fixed()], vec![busy()]), WaitReason::BehindOthers);
    assert_eq!(reason(vec![fixed()], vec![]), WaitReason::PoolNotScaled);
    assert_eq!(reason(vec![fixed()], vec![sick()]), WaitReason::NoUsableBot);
    assert_eq!(reason(vec![Pool { max_workers: 0, ..linux() }], vec![]), WaitReason::PoolStopped);
    assert_eq!(reason(vec![], vec![]), WaitReason::NoBotFits);
    assert_eq!(reason(vec![pool("n/arm", &[("ISA", "arm64")])], vec![]), WaitReason::NoPoolFits);
    // A bot of no declared pool takes what no pool fits.
    let stray = (bot("x", "", LINUX), 2);
    assert_eq!(reason(vec![pool("n/arm", &[("ISA", "arm64")])], vec![stray]), WaitReason::BehindOthers);
}

#[test]
fn the_text_names_what_lacks_the_nearest_pool_and_what_is_on_offer() {
    let pools = vec![pool("n/arm", &[("ISA", "arm64")]), pool("n/linux", LINUX)];
    let why = explain(&view(pools, vec![]), &requirement(&[("ISA", "sparc"), ("OSFamily", "linux")]));
    assert_eq!(
        why.text,
        "No worker can run this, because no pool has ISA=sparc; on offer for ISA: arm64, x86-64; the nearest pool is \
         n/linux."
    );
    let mismatch = why.mismatch.unwrap();
    assert_eq!(mismatch.missing, [("ISA".to_owned(), "sparc".to_owned())]);
    assert_eq!(mismatch.nearest, "n/linux");
}

#[test]
fn the_images_on_offer_are_named() {
    let pools = vec![Pool { runner_images: vec!["r.example/gcc:13".into()], ..pool("n/gcc", &[]) }];
    let view = view(pools, vec![]);
    let why = explain(&view, &requirement(&[("container-image", "r.example/clang:18")]));
    assert!(why.text.contains("r.example/clang:18") && why.text.contains("r.example/gcc:13"), "{}", why.text);
    let why = explain(&view, &requirement(&[("container-image", "r.example/gcc:13")]));
    assert_eq!(why.reason, WaitReason::ScalingUp);
}

#[test]
fn a_pool_decides_which_keys_its_bots_disregard() {
    let loose = Pool { ignored: ["cpu".to_owned()].into(), ..pool("n/linux", LINUX) };
    let view = view(vec![loose], vec![(bot("b", "n/linux", &[]), 0)]);
    let picky = requirement(&[("cpu", "4"), ("ISA", "x86-64")]);
    assert_eq!(explain(&view, &picky).reason, WaitReason::BehindOthers);
    assert_eq!(view.bots_for(&picky).count(), 1, "the bot takes what its pool is declared to take");
}
