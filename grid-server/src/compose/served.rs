//! What this version can't serve yet of what a configuration may say: `check` says it, so that nothing is ignored.

use grid_config::ServerConfig;
use grid_config::model::{Place, Service};

/// The places that keep a configuration from being served, of those that something is served from.
pub(crate) fn unserved(config: &ServerConfig) -> Vec<Place> {
    let services = config.instances.iter().flat_map(|instance| &instance.services);
    let schedulers = services.filter_map(|service| match &service.value {
        Service::Execution(execution) => Some(&execution.scheduler),
        Service::Bots(bots) => Some(&bots.scheduler),
        Service::Operations(operations) => Some(&operations.scheduler),
        Service::Fleet(fleet) => Some(&fleet.scheduler),
        Service::Cas(_)
        | Service::ByteStream(_)
        | Service::ActionCache(_)
        | Service::LogStream(_)
        | Service::BuildEvents(_)
        | Service::RemoteAsset(_) => None,
    });
    let unserved = schedulers.filter(|scheduler| scheduler.logstream.is_some());
    let mut found: Vec<Place> = unserved.map(|scheduler| scheduler.place.clone()).collect();
    found.sort_by_key(|place| place.mark);
    found.dedup();
    found
}
