//! Where unfinished uploads wait, so that they resume on whichever replica they reach next.

use std::sync::Arc;
use std::time::Duration;

use grid_config::model::{self, ServerService, Service, Shared};
use grid_core::SystemClock;
use grid_rpc::bytestream::Resumable;
use grid_streams::SqlUploadStore;

use super::expiry::Expiring;
use super::{ComposeError, Composer};

/// Uploads of fewer bytes are sent again.
const FROM_BYTES: u64 = 32 << 20;
/// How long an upload may stand still.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

impl Composer<'_> {
    /// The uploads of a ByteStream: in the database that it names, or in the embedded one where the server has it anyway;
    /// a database is not made for them.
    pub(super) async fn uploads(
        &mut self,
        stream: &model::ByteStream,
    ) -> Result<Option<Resumable>, ComposeError> {
        if stream.sql.is_none() && !self.has_state_database() {
            return Ok(None);
        }
        let database = self.database_of(stream.sql.as_ref()).await?;
        let store = Arc::new(SqlUploadStore::new(database, Arc::new(SystemClock)));
        self.expiry.add(Expiring::Uploads(Arc::clone(&store)), RETENTION);
        Ok(Some(Resumable { store, from_bytes: FROM_BYTES }))
    }

    /// Whether a service that is served keeps something in the embedded database.
    fn has_state_database(&self) -> bool {
        let state = |scheduler: &model::Scheduler| scheduler.database == model::Database::State;
        let quotas = |service: &Shared<ServerService>| {
            let ServerService::Quota(quotas) = &service.value;
            state(&quotas.scheduler)
        };
        self.config.services.iter().any(quotas)
            || self.config.instances.iter().flat_map(|instance| &instance.services).any(|service| {
                match &service.value {
                    Service::LogStream(logs) => logs.sql.is_none(),
                    Service::BuildEvents(events) => events.sql.is_none(),
                    Service::RemoteAsset(assets) => assets.sql.is_none(),
                    Service::Execution(execution) => state(&execution.scheduler),
                    Service::Bots(bots) => state(&bots.scheduler),
                    Service::Operations(operations) => state(&operations.scheduler),
                    Service::Fleet(fleet) => state(&fleet.scheduler),
                    Service::Introspection(looks) => state(&looks.scheduler),
                    Service::ActionCache(_) | Service::Cas(_) | Service::ByteStream(_) => false,
                }
            })
    }
}
