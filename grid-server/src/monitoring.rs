//! From the configuration's `monitoring` to the bus that it means.

use std::time::Duration;

use grid_config::model::{self, MonitoringFormat, MonitoringTarget};
use grid_scheduler_sql::Database;
use grid_telemetry::bus::{Bus, BusOptions, Format, TagFormat, Target};
use grid_telemetry::{Metrics, databases};

/// How often pools of connections are looked at.
const SAMPLE: Duration = Duration::from_secs(15);

/// The bus, where the configuration has one. Must be called within a runtime.
pub(crate) fn bus(config: &grid_config::ServerConfig, metrics: &Metrics) -> Option<Bus> {
    config.monitoring.as_ref().map(|monitoring| Bus::start(options(monitoring), metrics))
}

/// Publishes for ever how many connections of each pool are at work.
pub(crate) async fn sessions(bus: Bus, pools: Vec<(String, Database)>) {
    loop {
        pools.iter().for_each(|(name, pool)| databases::sampled(&bus, name, pool.active()));
        tokio::time::sleep(SAMPLE).await;
    }
}

/// Waits a while until everything is published that a command that ends has to say.
pub(crate) async fn flush(bus: Option<Bus>) {
    const WITHIN: Duration = Duration::from_secs(2);
    if let Some(bus) = bus {
        bus.flush(WITHIN).await;
    }
}

fn options(monitoring: &model::Monitoring) -> BusOptions {
    BusOptions {
        target: match &monitoring.target {
            MonitoringTarget::Stdout => Target::Stdout,
            MonitoringTarget::File(path) => Target::File(path.clone()),
            MonitoringTarget::Socket(path) => Target::Socket(path.clone()),
            MonitoringTarget::Udp(address) => Target::Udp(address.clone()),
        },
        format: match monitoring.format {
            MonitoringFormat::Binary => Format::Binary,
            MonitoringFormat::Json => Format::Json,
            MonitoringFormat::Statsd => Format::Statsd,
        },
        prefix: monitoring.prefix.clone(),
        tags: match monitoring.tags {
            model::TagFormat::None => TagFormat::None,
            model::TagFormat::Influx => TagFormat::Influx,
            model::TagFormat::Dog => TagFormat::Dog,
            model::TagFormat::Graphite => TagFormat::Graphite,
        },
        additional_tags: monitoring.additional_tags.clone(),
    }
}
