//! `!metering`: what counts who uses how much, for the schedulers that name it.

use std::sync::Arc;

use grid_config::model::{self, Shared};
use grid_rpc::execution::metering::{Metered, Metering, MeteringOptions, Thresholds, Throttle};

use super::{ComposeError, Composer, key};

impl Composer<'_> {
    /// How a scheduler's clients are metered, where they are.
    pub(super) fn metering(
        &mut self,
        scheduler: &Shared<model::Scheduler>,
    ) -> Result<Option<Metered>, ComposeError> {
        let Some(item) = &scheduler.metering else { return Ok(None) };
        let throttle = if scheduler.rejects_throttled { Throttle::Reject } else { Throttle::Deprioritize };
        let known = self.metering.get(&key(item, None)).cloned();
        let metering = match known {
            Some(known) => known,
            None => {
                let options = MeteringOptions {
                    thresholds: thresholds(item)?,
                    window: item.window,
                    deduplication: item.deduplication,
                };
                let made = Arc::new(Metering::new(self.redis(&item.redis), options));
                self.metering.insert(key(item, None), Arc::clone(&made));
                made
            }
        };
        Ok(Some(Metered { metering, throttle }))
    }
}

fn thresholds(item: &Shared<model::Metering>) -> Result<Thresholds, ComposeError> {
    let Some(path) = &item.thresholds else { return Ok(Thresholds::default()) };
    Thresholds::load(path).map_err(|what| ComposeError::Contradiction {
        place: format!("{}.throttling-config-path", item.place),
        what: format!("{}: {what}", path.display()),
    })
}
