//! How many workers are wanted: each waiting job counts for one pool.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use grid_core::Timestamp;

use super::explain::{Explanation, explain};
use super::pool::Pool;
use super::view::View;
use crate::properties::{Requirement, RequirementId};
use crate::store::{Depth, Recent};

/// Demand for workers at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// When it was so.
    pub at: Timestamp,
    /// By pool name; pools without demand are there with zeros.
    pub pools: BTreeMap<String, PoolDemand>,
    /// Jobs that no declared pool fits.
    pub unplaced: Vec<Unplaced>,
}

/// Demand for one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolDemand {
    /// Jobs that wait and count for it.
    pub queued: u64,
    /// Leases of its bots.
    pub executing: u64,
    /// Since when the one that waits longest does.
    pub oldest: Option<Timestamp>,
    /// Grows when a job comes while it has no free slot.
    pub wakeup: u64,
    /// Bots that take work.
    pub bots: u32,
    /// Their slots.
    pub slots: u64,
    /// Those that hold no lease.
    pub idle_slots: u64,
    /// Queue times of jobs that were assigned of late.
    pub queue_time: Option<Quantiles<Duration>>,
}

/// Jobs that no declared pool fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Unplaced {
    /// What they ask for.
    pub requirement: Requirement,
    /// How many wait.
    pub queued: u64,
    /// Since when the one that waits longest does.
    pub oldest: Option<Timestamp>,
    /// Why.
    pub why: Explanation,
}

/// Quantiles of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Quantiles<T> {
    pub p50: T,
    pub p90: T,
    pub p99: T,
    pub max: T,
}

impl PoolDemand {
    /// Slots that would let every waiting and running job run at once.
    #[must_use]
    pub const fn required_slots(&self) -> u64 {
        self.queued.saturating_add(self.executing)
    }
}

impl<T: Copy + Ord> Quantiles<T> {
    /// Of these figures; `None` of none.
    #[must_use]
    pub fn of(mut figures: Vec<T>) -> Option<Self> {
        figures.sort_unstable();
        let last = figures.len().saturating_sub(1);
        let at = |percent: usize| figures.get((figures.len() * percent / 100).min(last));
        let max = *figures.last()?;
        Some(Self { p50: *at(50)?, p90: *at(90)?, p99: *at(99)?, max })
    }
}

/// The demand, from how many jobs wait with each requirement.
#[must_use]
pub fn demand(
    view: &View,
    depths: &[Depth],
    requirements: &HashMap<RequirementId, Requirement>,
    recent: &[Recent],
) -> Demand {
    let mut pools: BTreeMap<String, PoolDemand> =
        view.pools().map(|pool| (pool.name.clone(), supply(view, pool))).collect();
    let mut unplaced = Vec::new();
    for depth in depths.iter().filter(|depth| depth.queued > 0) {
        let Some(requirement) = requirements.get(&depth.requirement) else { continue };
        let fitting = view.fitting(requirement);
        if fitting.is_empty() {
            let why = explain(view, requirement);
            let (requirement, queued, oldest) = (requirement.clone(), depth.queued, depth.oldest);
            unplaced.push(Unplaced { requirement, queued, oldest, why });
        } else {
            spread(&mut pools, &fitting, depth);
        }
    }
    for (name, pool) in &mut pools {
        let times = recent.iter().filter(|job| job.worker_pool == *name).map(Recent::queue_time);
        pool.queue_time = Quantiles::of(times.collect());
    }
    Demand { at: view.now, pools, unplaced }
}

fn supply(view: &View, pool: &Pool) -> PoolDemand {
    let mut supply =
        PoolDemand { wakeup: view.wakeups.get(&pool.name).copied().unwrap_or(0), ..PoolDemand::default() };
    for bot in view.bots_of(&pool.name) {
        supply.executing += u64::from(bot.leases);
        if bot.is_usable() {
            supply.bots += 1;
            supply.slots += u64::from(bot.session.capacity);
            supply.idle_slots += u64::from(bot.free());
        }
    }
    supply
}

/// Gives waiting jobs to the pools that fit: by rank, pools of equal rank share, and what is more than a rank may
/// ever hold goes on to the next. What no pool has room for counts for the first.
fn spread(pools: &mut BTreeMap<String, PoolDemand>, fitting: &[&Pool], depth: &Depth) {
    let mut left = depth.queued;
    for rank in
        fitting.chunk_by(|a, b| a.priority == b.priority && (a.max_workers == 0) == (b.max_workers == 0))
    {
        let last = u64::try_from(rank.len()).unwrap_or(1);
        for (index, pool) in rank.iter().enumerate() {
            let Some(demand) = pools.get_mut(&pool.name) else { continue };
            let share = left.div_ceil(last - u64::try_from(index).unwrap_or(0));
            add(
                demand,
                share.min(pool.most_slots().saturating_sub(demand.required_slots())),
                &mut left,
                depth,
            );
        }
    }
    if let Some(demand) = fitting.first().and_then(|pool| pools.get_mut(&pool.name)) {
        add(demand, left, &mut left, depth);
    }
}

fn add(demand: &mut PoolDemand, jobs: u64, left: &mut u64, depth: &Depth) {
    if jobs > 0 {
        demand.queued += jobs;
        *left -= jobs;
        demand.oldest = [demand.oldest, depth.oldest].into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests;
