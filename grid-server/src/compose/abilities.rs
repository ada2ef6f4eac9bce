//! What an instance's capabilities say of blobs, results and execution: our own words, or those of the servers behind us.
//!
//! An instance that executes tells of its blobs and results even where clients find these at another server: where a
//! proxy routes by service, Capabilities goes to Execution, and speaks for all.

use std::sync::Arc;

use grid_config::model::{ActionCache, Instance, Place, Remote, Service, Shared, Storage};
use grid_core::InstanceName;
use grid_rpc::capabilities::{ActionCacheAbilities, CasAbilities, ExecutionAbilities, Part};
use grid_rpc::cas::CasInstance;
use grid_rpc::remote_capabilities::RemoteCapabilities;
use grid_rpc::transport::MAX_BATCH_BYTES;

use super::remotes::{behind_cache, behind_storage};
use super::{ComposeError, Composer};

impl Composer<'_> {
    /// What an instance can do with blobs that it serves.
    pub(super) fn served_blobs(
        &mut self,
        served: &CasInstance,
        instance: &Instance,
        storage: &Shared<Storage>,
        name: &InstanceName,
    ) -> Result<Part<CasAbilities>, ComposeError> {
        let ours = CasAbilities {
            max_batch_bytes: served.max_batch_bytes,
            max_blob_bytes: largest_blob(instance),
            chunking: served.chunking.as_ref().map(|chunking| chunking.parameters()),
        };
        Ok(match behind_storage(storage) {
            Some((remote, place)) => Part::Front(ours, self.source(remote, place, name)?),
            None => Part::Local(ours),
        })
    }

    /// What an instance can do with results that it serves.
    pub(super) async fn served_results(
        &mut self,
        cache: &Shared<ActionCache>,
        name: &InstanceName,
    ) -> Result<Part<ActionCacheAbilities>, ComposeError> {
        let ours = ActionCacheAbilities { update_enabled: self.cache(cache, name).await?.allows_updates() };
        Ok(match behind_cache(cache) {
            Some((remote, place)) => Part::Front(ours, self.source(remote, place, name)?),
            None => Part::Local(ours),
        })
    }

    /// What can be done with the blobs of an instance that executes, and that another server serves to clients.
    pub(super) fn blobs_elsewhere(
        &mut self,
        storage: &Shared<Storage>,
        name: &InstanceName,
    ) -> Result<Part<CasAbilities>, ComposeError> {
        Ok(match behind_storage(storage) {
            Some((remote, place)) => Part::Remote(self.source(remote, place, name)?),
            None => Part::Local(CasAbilities {
                max_batch_bytes: MAX_BATCH_BYTES,
                max_blob_bytes: None,
                chunking: None,
            }),
        })
    }

    /// What can be done with the results of an instance that executes, and that another server serves to clients.
    pub(super) async fn results_elsewhere(
        &mut self,
        cache: &Shared<ActionCache>,
        name: &InstanceName,
    ) -> Result<Part<ActionCacheAbilities>, ComposeError> {
        Ok(match behind_cache(cache) {
            Some((remote, place)) => Part::Remote(self.source(remote, place, name)?),
            None => Part::Local(ActionCacheAbilities {
                update_enabled: self.cache(cache, name).await?.allows_updates(),
            }),
        })
    }

    fn source(
        &mut self,
        remote: &Remote,
        place: &Place,
        name: &InstanceName,
    ) -> Result<Arc<RemoteCapabilities>, ComposeError> {
        Ok(Arc::new(RemoteCapabilities::new(self.connection(remote, name, place)?)))
    }
}

/// The largest blob that each service of an instance takes.
fn largest_blob(instance: &Instance) -> Option<u64> {
    let limits = instance.services.iter().filter_map(|service| match &service.value {
        Service::Cas(cas) => cas.max_blob_size,
        Service::ByteStream(stream) => stream.max_blob_size,
        _ => None,
    });
    limits.min()
}

/// What an instance that executes can do.
pub(super) fn execution() -> ExecutionAbilities {
    ExecutionAbilities { priorities: (i32::MIN, i32::MAX), node_properties: Vec::new() }
}
