//! [`CacheMetrics`]: what action caches report.

use grid_cache::observer::{CacheEvent, CacheObserver};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::Metrics;
use crate::bus::Bus;
use crate::published;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Event {
    event: &'static str,
}

/// Counts what action caches report.
#[derive(Debug)]
pub struct CacheMetrics {
    events: Family<Event, Counter>,
    bus: Option<Bus>,
}

impl CacheMetrics {
    /// The metrics, in a registry.
    #[must_use]
    pub fn new(metrics: &Metrics, bus: Option<Bus>) -> Self {
        let events = Family::default();
        let help = "What became of looks into action caches: hit, miss, incomplete (an output is gone); front_hit and \
                    front_miss of caches before others; mirrors_match and mirrors_differ of mirrored ones";
        metrics.register("action_cache", help, &events);
        Self { events, bus }
    }
}

impl CacheObserver for CacheMetrics {
    fn event(&self, event: CacheEvent) {
        self.events.get_or_create(&Event { event: name(event) }).inc();
        if let Some(bus) = &self.bus {
            published::looked_up(bus, event);
        }
    }
}

const fn name(event: CacheEvent) -> &'static str {
    match event {
        CacheEvent::Hit => "hit",
        CacheEvent::Miss => "miss",
        CacheEvent::Incomplete => "incomplete",
        CacheEvent::FrontHit => "front_hit",
        CacheEvent::FrontMiss => "front_miss",
        CacheEvent::MirrorsMatch => "mirrors_match",
        CacheEvent::MirrorsDiffer => "mirrors_differ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_by_what_became_of_them() {
        let metrics = Metrics::default();
        let caches = CacheMetrics::new(&metrics, None);
        [CacheEvent::Hit, CacheEvent::Hit, CacheEvent::Incomplete].into_iter().for_each(|e| caches.event(e));
        let text = metrics.encode();
        for line in
            ["grid_action_cache_total{event=\"hit\"} 2", "grid_action_cache_total{event=\"incomplete\"} 1"]
        {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
