//! How the pods that a grid's autoscaled pools may have together are shared among them: a pure function, so that each pool
//! comes to the same answer by itself.
//!
//! Pools of higher priority come first. Nobody's busy worker is ended for it: a pool that has more than its share gives
//! idle workers up, and the others wait until it has.

use std::cmp::Reverse;

/// What one autoscaled pool has and would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) priority: i32,
    /// Pods that it has without any demand.
    pub(crate) least: i32,
    /// Pods that its demand asks for now, within its own limits.
    pub(crate) wanted: i32,
    /// Pods that are there, those that leave among them.
    pub(crate) current: i32,
}

/// The pods that the pool `name` may have now. Where all pools do as they are told, they never have more together than
/// `budget`, or than they have already.
pub(crate) fn allowed(budget: i32, claims: &[Claim], name: &str) -> i32 {
    let mut ordered: Vec<&Claim> = claims.iter().collect();
    ordered.sort_by_key(|claim| (Reverse(claim.priority), claim.name.as_str()));
    let shares = shares(budget, &ordered);
    let mut room = (budget - ordered.iter().map(|claim| claim.current).sum::<i32>()).max(0);
    for (claim, share) in ordered.into_iter().zip(shares) {
        let more = (share - claim.current).clamp(0, room);
        if claim.name == name {
            return share.min(claim.current + more);
        }
        room -= more;
    }
    0
}

/// What each is to have in the end: first what it has in any case, then what its demand asks for, then what it has and nobody
/// else needs.
fn shares(budget: i32, ordered: &[&Claim]) -> Vec<i32> {
    let mut left = budget;
    let mut shares = vec![0; ordered.len()];
    let levels: [fn(&Claim) -> i32; 3] =
        [|claim| claim.least, |claim| claim.wanted, |claim| claim.wanted.max(claim.current)];
    for level in levels {
        for (share, claim) in shares.iter_mut().zip(ordered) {
            let more = (level(claim) - *share).clamp(0, left.max(0));
            *share += more;
            left -= more;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(name: &str, priority: i32, wanted: i32, current: i32) -> Claim {
        Claim { name: name.to_owned(), priority, least: 0, wanted, current }
    }

    #[test]
    fn the_pool_of_higher_priority_grows_first_and_the_other_has_the_rest() {
        let claims = [claim("low", 0, 10, 0), claim("high", 5, 7, 0)];
        assert_eq!((allowed(10, &claims, "high"), allowed(10, &claims, "low")), (7, 3));
    }

    #[test]
    fn who_comes_later_waits_until_the_other_has_given_up_its_pods() {
        let claims = [claim("low", 0, 10, 10), claim("high", 5, 7, 0)];
        assert_eq!((allowed(10, &claims, "high"), allowed(10, &claims, "low")), (0, 3));
        let claims = [claim("low", 0, 10, 6), claim("high", 5, 7, 0)];
        assert_eq!((allowed(10, &claims, "high"), allowed(10, &claims, "low")), (4, 3), "four have left");
    }

    #[test]
    fn what_nobody_else_needs_stays() {
        let claims = [claim("idle", 0, 0, 6), claim("busy", 0, 4, 4)];
        assert_eq!(allowed(10, &claims, "idle"), 6, "the delay of scaling down is the pool's own");
        let claims = [claim("idle", 0, 0, 6), claim("busy", 0, 9, 4)];
        assert_eq!(allowed(10, &claims, "idle"), 1);
    }

    #[test]
    fn what_a_pool_has_in_any_case_is_not_taken_by_another_one() {
        let claims = [Claim { least: 2, ..claim("small", -1, 2, 0) }, claim("large", 9, 100, 0)];
        assert_eq!((allowed(10, &claims, "small"), allowed(10, &claims, "large")), (2, 8));
    }

    proptest! {
        /// Whatever they have and want: together never more than the budget, or than they have; and when the demand stays, they
        /// come to rest with all of the budget used that is needed.
        #[test]
        fn the_budget_is_kept_and_used(
            budget in 0..30_i32,
            pools in prop::collection::vec((0..3_i32, 0..3_i32, 0..12_i32, 0..12_i32), 1..6),
        ) {
            let mut claims: Vec<Claim> = pools.iter().enumerate().map(|(n, (priority, least, wanted, current))| Claim {
                least: *least, wanted: (*wanted).max(*least), ..claim(&format!("p{n}"), *priority, 0, *current)
            }).collect();
            let before: i32 = claims.iter().map(|claim| claim.current).sum();
            for _ in 0..3 {
                let next: Vec<i32> = claims.iter().map(|claim| allowed(budget, &claims, &claim.name)).collect();
                let together: i32 = claims.iter().zip(&next).map(|(claim, next)| claim.current.max(*next)).sum();
                prop_assert!(together <= budget.max(before), "{claims:?} to {next:?}");
                claims.iter_mut().zip(&next).for_each(|(claim, next)| claim.current = *next);
            }
            let (have, need): (i32, i32) =
                claims.iter().fold((0, 0), |(have, need), claim| (have + claim.current, need + claim.wanted));
            prop_assert!(have >= need.min(budget), "{claims:?}");
            let least: i32 = claims.iter().map(|claim| claim.least).sum();
            prop_assert!(have <= budget.max(least), "{claims:?}");
        }
    }
}
