//! How many connections to databases are at work, for the bus.

use crate::bus::Bus;
use crate::published;

/// Publishes how many connections of a pool are at work; `name` is the one that its configuration gives it for metrics.
pub fn sampled(bus: &Bus, name: &str, active: u32) {
    published::sessions(bus, name, active);
}
