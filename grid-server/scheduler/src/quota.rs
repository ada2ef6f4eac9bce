//! Quotas: how many leases an instance is due, and may hold, in a cohort of bots. Pure.
//!
//! What is in use is counted from the leases that there are, never kept beside them. [`Ledger`] goes on counting while a
//! claim gives jobs out; [`crate::engine`] locks the rows, and takes leases back for an instance that has too few.

use std::collections::{BTreeMap, BTreeSet};

/// A group of bots, told by the labels of what they can run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohort {
    /// Its name.
    pub name: String,
    /// Labels of platforms; a bot whose labels are all among them is in the cohort.
    pub labels: BTreeSet<String>,
}

/// An instance's share of a cohort. An instance without one may hold any number of leases, and is due none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The cohort.
    pub cohort: String,
    /// The instance.
    pub instance: String,
    /// The leases that it is due: it comes before all others until it has as many.
    pub min: u32,
    /// The leases that it may hold.
    pub max: u32,
}

/// A quota, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The quota.
    pub quota: Quota,
    /// The leases that the instance holds.
    pub used: u32,
    /// How many were taken from it of late for others.
    pub evicted: u32,
}

impl Share {
    /// The leases that the instance may hold now: while what was taken from it is needed elsewhere it does not get it
    /// back, but it always gets what it is due.
    #[must_use]
    pub fn ceiling(&self) -> u32 {
        self.quota.max.saturating_sub(self.evicted).max(self.quota.min)
    }

    /// How many leases it lacks of those that it is due.
    #[must_use]
    pub fn lacks(&self) -> u32 {
        self.quota.min.saturating_sub(self.used)
    }
}

/// The cohort of a bot with these labels: the first that has them all.
#[must_use]
pub fn cohort_of<'c>(cohorts: &'c [Cohort], labels: &BTreeSet<String>) -> &'c str {
    cohorts.iter().find(|cohort| labels.is_subset(&cohort.labels)).map_or("", |cohort| &cohort.name)
}

/// Shares, counted on while leases are given and taken.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By cohort, then instance.
    shares: BTreeMap<String, BTreeMap<String, Share>>,
}

impl Ledger {
    /// The ledger of these shares.
    #[must_use]
    pub fn new(shares: Vec<Share>) -> Self {
        let mut ledger = Self::default();
        for share in shares {
            let of = ledger.shares.entry(share.quota.cohort.clone()).or_default();
            of.insert(share.quota.instance.clone(), share);
        }
        ledger
    }

    /// Whether the instance may get one more lease of the cohort.
    #[must_use]
    pub fn admits(&self, cohort: &str, instance: &str) -> bool {
        self.share(cohort, instance).is_none_or(|share| share.used < share.ceiling())
    }

    /// Whether the instance has fewer leases of the cohort than it is due.
    #[must_use]
    pub fn owes(&self, cohort: &str, instance: &str) -> bool {
        self.share(cohort, instance).is_some_and(|share| share.lacks() > 0)
    }

    /// The instances that have fewer leases of the cohort than they are due, with how many they lack.
    pub fn owed(&self, cohort: &str) -> impl Iterator<Item = (&str, u32)> {
        self.of(cohort).map(|(name, share)| (name, share.lacks())).filter(|(_, lacks)| *lacks > 0)
    }

    /// The instances that may get no more leases of the cohort.
    pub fn barred(&self, cohort: &str) -> impl Iterator<Item = &str> {
        self.of(cohort).filter(|(_, share)| share.used >= share.ceiling()).map(|(name, _)| name)
    }

    /// The instances that have more leases of the cohort than they are due.
    pub fn lenders(&self, cohort: &str) -> impl Iterator<Item = &str> {
        self.of(cohort).filter(|(_, share)| share.used > share.quota.min).map(|(name, _)| name)
    }

    /// How many leases of the cohort were taken of late.
    #[must_use]
    pub fn evicted(&self, cohort: &str) -> u32 {
        self.of(cohort).map(|(_, share)| share.evicted).sum()
    }

    /// The instance got a lease.
    pub fn take(&mut self, cohort: &str, instance: &str) {
        if let Some(share) = self.share_mut(cohort, instance) {
            share.used += 1;
        }
    }

    /// The instance lost a lease.
    pub fn evict(&mut self, cohort: &str, instance: &str) {
        if let Some(share) = self.share_mut(cohort, instance) {
            share.used = share.used.saturating_sub(1);
            share.evicted += 1;
        }
    }

    fn of(&self, cohort: &str) -> impl Iterator<Item = (&str, &Share)> {
        self.shares.get(cohort).into_iter().flatten().map(|(name, share)| (name.as_str(), share))
    }

    fn share(&self, cohort: &str, instance: &str) -> Option<&Share> {
        self.shares.get(cohort)?.get(instance)
    }

    fn share_mut(&mut self, cohort: &str, instance: &str) -> Option<&mut Share> {
        self.shares.get_mut(cohort)?.get_mut(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(instance: &str, min: u32, max: u32, used: u32, evicted: u32) -> Share {
        let quota = Quota { cohort: "c".to_owned(), instance: instance.to_owned(), min, max };
        Share { quota, used, evicted }
    }

    #[test]
    fn a_share_ends_at_its_ceiling_and_what_is_not_shared_never_does() {
        let mut ledger = Ledger::new(vec![share("a", 1, 3, 2, 0)]);
        assert!(ledger.admits("c", "a") && !ledger.owes("c", "a"));
        ledger.take("c", "a");
        assert!(!ledger.admits("c", "a"));
        assert_eq!(ledger.barred("c").collect::<Vec<_>>(), ["a"]);
        assert!(ledger.admits("c", "other") && ledger.admits("elsewhere", "a"));
        assert_eq!(ledger.barred("elsewhere").count(), 0);
    }

    #[test]
    fn what_was_evicted_lowers_the_ceiling_but_never_below_the_minimum() {
        assert_eq!(share("a", 2, 10, 0, 3).ceiling(), 7);
        assert_eq!(share("a", 2, 10, 0, 30).ceiling(), 2);
        let mut ledger = Ledger::new(vec![share("a", 0, 2, 2, 0), share("b", 2, 2, 0, 0)]);
        assert_eq!(ledger.owed("c").collect::<Vec<_>>(), [("b", 2)]);
        assert_eq!(ledger.lenders("c").collect::<Vec<_>>(), ["a"]);
        ledger.evict("c", "a");
        assert!(!ledger.admits("c", "a"), "it would take back at once what was taken from it");
        ledger.take("c", "b");
        assert_eq!(ledger.owed("c").collect::<Vec<_>>(), [("b", 1)]);
    }

    #[test]
    fn a_bot_is_in_the_first_cohort_that_has_all_its_labels() {
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let cohort = |name: &str, of: &[&str]| Cohort { name: name.to_owned(), labels: labels(of) };
        let cohorts = [cohort("small", &["linux"]), cohort("all", &["linux", "mac"])];
        assert_eq!(cohort_of(&cohorts, &labels(&["linux"])), "small");
        assert_eq!(cohort_of(&cohorts, &labels(&["linux", "mac"])), "all");
        assert_eq!(cohort_of(&cohorts, &labels(&["windows"])), "");
    }
}
