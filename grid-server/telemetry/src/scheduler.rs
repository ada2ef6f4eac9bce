//! [`SchedulerMetrics`]: how long jobs wait and run, how leases end, and how long the queue is.
//!
//! What jobs went through is counted by the replica that did it: sums over replicas are the grid's. The queue is the
//! grid's own, told alike by every replica: the largest counts, not the sum.

use grid_scheduler::history::Run;
use grid_scheduler::service::{Assigned, Counts, Observer, SchedulerEvent};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::Metrics;
use crate::bus::Bus;
use crate::published::{self, Gauges};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    pool: String,
    priority: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    pool: String,
    ending: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: String,
}

/// Counts what jobs go through.
#[derive(Clone, Debug)]
pub struct SchedulerMetrics {
    queue_seconds: Family<Kind, Histogram, fn() -> Histogram>,
    run_seconds: Family<Kind, Histogram, fn() -> Histogram>,
    leases: Family<Ended, Counter>,
    queued: Gauge,
    executing: Gauge,
    oldest_seconds: Gauge,
    unplaced: Gauge,
    pool_queued: Family<Pool, Gauge>,
    pool_executing: Family<Pool, Gauge>,
    pool_bots: Family<Pool, Gauge>,
    pool_slots: Family<Pool, Gauge>,
    pool_idle_slots: Family<Pool, Gauge>,
    gauges: Gauges,
    bus: Option<Bus>,
}

/// From a millisecond to more than an hour.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 3.0, 15))
}

/// Clients choose any number: three classes are what a label can bear.
const fn class(priority: i32) -> &'static str {
    match priority {
        ..0 => "high",
        0 => "normal",
        1.. => "low",
    }
}

fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl SchedulerMetrics {
    /// The metrics, in a registry.
    #[must_use]
    pub fn new(metrics: &Metrics, bus: Option<Bus>) -> Self {
        let this = Self {
            queue_seconds: Family::new_with_constructor(seconds),
            run_seconds: Family::new_with_constructor(seconds),
            leases: Family::default(),
            queued: Gauge::default(),
            executing: Gauge::default(),
            oldest_seconds: Gauge::default(),
            unplaced: Gauge::default(),
            pool_queued: Family::default(),
            pool_executing: Family::default(),
            pool_bots: Family::default(),
            pool_slots: Family::default(),
            pool_idle_slots: Family::default(),
            gauges: Gauges::default(),
            bus,
        };
        this.register(metrics);
        this
    }

    fn register(&self, metrics: &Metrics) {
        let queue =
            "How long jobs waited for their first lease, by pool and class of priority (high is below 0)";
        metrics.register("scheduler_queue_seconds", queue, &self.queue_seconds);
        let run = "How long actions ran, by pool and class of priority";
        metrics.register("scheduler_run_seconds", run, &self.run_seconds);
        metrics.register("scheduler_leases", "Leases that ended, by pool and how", &self.leases);
        metrics.register("scheduler_queued_jobs", "Jobs that wait in the whole grid", &self.queued);
        metrics.register("scheduler_executing_jobs", "Jobs that run in the whole grid", &self.executing);
        let oldest = "How long the job has waited that waits longest";
        metrics.register("scheduler_oldest_queued_seconds", oldest, &self.oldest_seconds);
        let unplaced = "Jobs that wait and that no declared pool fits, where pools are declared";
        metrics.register("scheduler_unplaced_jobs", unplaced, &self.unplaced);
        metrics.register("scheduler_pool_queued_jobs", "Jobs that count for a pool", &self.pool_queued);
        metrics.register("scheduler_pool_executing_jobs", "Leases of a pool's bots", &self.pool_executing);
        metrics.register("scheduler_pool_bots", "Bots of a pool that take work", &self.pool_bots);
        metrics.register("scheduler_pool_slots", "Slots of those bots", &self.pool_slots);
        metrics.register("scheduler_pool_idle_slots", "Slots that hold no lease", &self.pool_idle_slots);
    }

    /// A pool that is no longer declared is no longer told of.
    fn forget_pools(&self) {
        let pools = [
            &self.pool_queued,
            &self.pool_executing,
            &self.pool_bots,
            &self.pool_slots,
            &self.pool_idle_slots,
        ];
        pools.into_iter().for_each(Family::clear);
    }
}

impl Observer for SchedulerMetrics {
    fn assigned(&self, assigned: Assigned<'_>) {
        let kind = Kind { pool: assigned.pool.to_owned(), priority: class(assigned.priority) };
        self.queue_seconds.get_or_create(&kind).observe(assigned.waited.as_secs_f64());
        if let Some(bus) = &self.bus {
            published::assigned(bus, &assigned);
        }
    }

    fn ended(&self, pool: &str, run: &Run) {
        let kind = Kind { pool: pool.to_owned(), priority: class(run.priority) };
        self.run_seconds.get_or_create(&kind).observe(run.run_time().as_secs_f64());
        self.leases.get_or_create(&Ended { pool: pool.to_owned(), ending: run.ending.name() }).inc();
        if let Some(bus) = &self.bus {
            published::ran(bus, pool, run);
        }
    }

    fn counted(&self, counts: &Counts) {
        if let Some(bus) = &self.bus {
            self.gauges.publish(bus, counts);
        }
        let Counts { depths, demand, .. } = counts;
        self.queued.set(gauge(depths.iter().map(|depth| depth.queued).sum::<u64>()));
        self.executing.set(gauge(depths.iter().map(|depth| depth.executing).sum::<u64>()));
        let oldest = depths.iter().filter_map(|depth| depth.oldest).min();
        self.oldest_seconds.set(oldest.map_or(0, |oldest| gauge(demand.at.since(oldest).as_secs())));
        let declared = !demand.pools.is_empty();
        let unplaced = demand.unplaced.iter().filter(|_| declared).map(|unplaced| unplaced.queued);
        self.unplaced.set(gauge(unplaced.sum::<u64>()));
        self.forget_pools();
        for (name, of) in &demand.pools {
            let pool = Pool { pool: name.clone() };
            self.pool_queued.get_or_create(&pool).set(gauge(of.queued));
            self.pool_executing.get_or_create(&pool).set(gauge(of.executing));
            self.pool_bots.get_or_create(&pool).set(gauge(of.bots));
            self.pool_slots.get_or_create(&pool).set(gauge(of.slots));
            self.pool_idle_slots.get_or_create(&pool).set(gauge(of.idle_slots));
        }
    }

    fn event(&self, event: SchedulerEvent<'_>) {
        if let Some(bus) = &self.bus {
            published::done(bus, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use grid_core::Timestamp;
    use grid_scheduler::fleet::demand::{Demand, PoolDemand};
    use grid_scheduler::properties::RequirementId;
    use grid_scheduler::store::Depth;

    use super::*;

    fn depth(queued: u64, oldest: i64) -> Depth {
        let requirement = RequirementId(uuid::Uuid::nil());
        Depth { requirement, queued, executing: 2, oldest: Some(Timestamp(oldest)) }
    }

    fn counts(depths: Vec<Depth>, demand: Demand) -> Counts {
        Counts { depths, demand, ..Counts::default() }
    }

    #[test]
    fn the_queue_and_the_waits_are_told() {
        let metrics = Metrics::default();
        let scheduler = SchedulerMetrics::new(&metrics, None);
        let waited = Duration::from_millis(20);
        scheduler.assigned(Assigned { pool: "ns/linux", instance: "", priority: -3, waited });
        let pools =
            BTreeMap::from([("ns/linux".to_owned(), PoolDemand { queued: 4, ..PoolDemand::default() })]);
        let demand = Demand { at: Timestamp(9_000_000), pools, unplaced: Vec::new() };
        scheduler.counted(&counts(vec![depth(3, 4_000_000), depth(1, 2_000_000)], demand));
        let text = metrics.encode();
        for line in [
            "grid_scheduler_queue_seconds_count{pool=\"ns/linux\",priority=\"high\"} 1",
            "grid_scheduler_queued_jobs 4",
            "grid_scheduler_executing_jobs 4",
            "grid_scheduler_oldest_queued_seconds 7",
            "grid_scheduler_pool_queued_jobs{pool=\"ns/linux\"} 4",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let gone = Demand { at: Timestamp(9_000_000), pools: BTreeMap::new(), unplaced: Vec::new() };
        scheduler.counted(&counts(Vec::new(), gone));
        assert!(!metrics.encode().contains("grid_scheduler_pool_queued_jobs{"), "the pool is gone");
    }
}
