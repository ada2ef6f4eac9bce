//! From the configuration's `monitoring` to the bus that it means.

use grid_config::model::{self, MonitoringFormat, MonitoringTarget};
use grid_telemetry::Metrics;
use grid_telemetry::bus::{Bus, BusOptions, Format, TagFormat, Target};

/// The bus, where the configuration has one. Must be called within a runtime.
pub(crate) fn bus(config: &grid_config::ServerConfig, metrics: &Metrics) -> Option<Bus> {
    config.monitoring.as_ref().map(|monitoring| Bus::start(options(monitoring), metrics))
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
