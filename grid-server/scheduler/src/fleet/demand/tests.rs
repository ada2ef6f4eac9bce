//! Rules of the demand for pools, and properties that hold for any of it.

use proptest::prelude::*;

use super::super::testing::{NOW, bot, pool, requirement, view};
use super::*;

fn depth(requirement: &Requirement, queued: u64) -> Depth {
    Depth { requirement: requirement.id(), queued, executing: 0, oldest: Some(NOW) }
}

fn of(view: &View, depths: &[(Requirement, u64)]) -> Demand {
    let requirements = depths.iter().map(|(r, _)| (r.id(), r.clone())).collect();
    let depths: Vec<Depth> = depths.iter().map(|(r, queued)| depth(r, *queued)).collect();
    demand(view, &depths, &requirements, &[])
}

#[test]
fn the_pool_of_highest_priority_takes_what_it_may_hold_and_the_next_the_rest() {
    let spot = Pool { priority: 1, ..pool("n/spot", &[("OS", "linux")]) };
    let fixed = pool("n/base", &[("OS", "linux")]);
    let view = view(vec![fixed, spot], vec![(bot("b", "n/spot", &[]), 2)]);
    let demand = of(&view, &[(requirement(&[("OS", "linux")]), 30)]);
    // Twenty slots at most, two of which are taken.
    assert_eq!((demand.pools["n/spot"].queued, demand.pools["n/base"].queued), (18, 12));
    assert_eq!(demand.pools["n/spot"].required_slots(), 20);
}

#[test]
fn what_is_more_than_all_pools_may_hold_counts_for_the_first() {
    let view = view(vec![pool("n/a", &[])], vec![]);
    let demand = of(&view, &[(requirement(&[]), 100)]);
    assert_eq!(demand.pools["n/a"].queued, 100);
}

#[test]
fn jobs_that_no_pool_fits_are_told_apart() {
    let view = view(vec![pool("n/a", &[("ISA", "x86-64")])], vec![]);
    let sparc = requirement(&[("ISA", "sparc")]);
    let demand = of(&view, &[(sparc.clone(), 3)]);
    assert_eq!(demand.pools["n/a"].queued, 0);
    assert_eq!((demand.unplaced[0].requirement.clone(), demand.unplaced[0].queued), (sparc, 3));
}

#[test]
fn bots_that_are_to_leave_are_no_supply() {
    let mut leaving = bot("a", "n/a", &[]);
    leaving.drain_until = Some(NOW);
    let view = view(vec![pool("n/a", &[])], vec![(leaving, 1), (bot("b", "n/a", &[]), 1)]);
    let pool = &of(&view, &[]).pools["n/a"];
    assert_eq!((pool.bots, pool.slots, pool.idle_slots, pool.executing), (1, 2, 1, 2));
}

#[test]
fn quantiles_are_of_the_times_given() {
    let times = |n: u64| (1..=n).map(Duration::from_secs).collect::<Vec<_>>();
    let of = Quantiles::of(times(100)).unwrap();
    assert_eq!((of.p50.as_secs(), of.p99.as_secs(), of.max.as_secs()), (51, 100, 100));
    assert_eq!(Quantiles::of(times(1)).unwrap().p99.as_secs(), 1);
    assert_eq!(Quantiles::<Duration>::of(Vec::new()), None);
}

proptest! {
    /// Whatever the pools, each waiting job that any fits counts for exactly one of them.
    #[test]
    fn each_job_counts_once(
        pools in proptest::collection::vec((0..3_i32, 0..4_u32, proptest::bool::ANY), 1..6),
        queued in 0..200_u64,
        executing in 0..5_u32,
    ) {
        let declared = pools.iter().enumerate().map(|(n, (priority, max, fits))| Pool {
            priority: *priority,
            max_workers: *max,
            ..pool(&format!("n/{n}"), if *fits { &[("k", "v")] } else { &[] })
        });
        let view = view(declared.collect(), vec![(bot("b", "n/0", &[]), executing)]);
        let demand = of(&view, &[(requirement(&[("k", "v")]), queued)]);
        let placed: u64 = demand.pools.values().map(|pool| pool.queued).sum();
        let unplaced: u64 = demand.unplaced.iter().map(|unplaced| unplaced.queued).sum();
        prop_assert_eq!(placed + unplaced, queued);
        let any = pools.iter().any(|(_, _, fits)| *fits);
        prop_assert_eq!(unplaced, if any { 0 } else { queued });
    }
}
