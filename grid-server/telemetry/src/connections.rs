//! How many connections are open, and how many may be.

use prometheus_client::metrics::gauge::Gauge;

use crate::Metrics;

/// The gauges.
#[derive(Clone, Debug)]
pub struct Connections {
    open: Gauge,
}

impl Connections {
    /// The gauges, in a registry; at most `most` may be open.
    #[must_use]
    pub fn new(metrics: &Metrics, most: usize) -> Self {
        let (open, limit) = (Gauge::default(), Gauge::<i64>::default());
        limit.set(i64::try_from(most).unwrap_or(i64::MAX));
        metrics.register("connections", "Connections of clients that are open", &open);
        metrics.register("connections_limit", "Connections of clients that may be open at once", &limit);
        Self { open }
    }

    /// Counts a connection until what is given is dropped.
    #[must_use]
    pub fn open(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_until_it_is_closed() {
        let metrics = Metrics::default();
        let connections = Connections::new(&metrics, 7);
        let (one, two) = (connections.open(), connections.open());
        drop(one);
        let text = metrics.encode();
        assert!(
            text.contains("\ngrid_connections 1\n") && text.contains("\ngrid_connections_limit 7\n"),
            "{text}"
        );
        drop(two);
        assert!(metrics.encode().contains("\ngrid_connections 0\n"));
    }
}
