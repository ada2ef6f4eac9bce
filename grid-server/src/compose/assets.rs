//! The Remote Asset services of the instances.

use std::sync::Arc;

use grid_config::model::{AssetFetch, Item, RemoteAsset};
use grid_core::{InstanceName, SystemClock};
use grid_rpc::asset::AssetInstance;
use grid_rpc::asset::origin::{Hosts, Origin, OriginOptions};
use grid_rpc::digests::all_functions;
use grid_streams::SqlAssetStore;

use super::expiry::Expiring;
use super::{ComposeError, Composer};

/// The folder of assets on their way, within the state directory.
const FOLDER: &str = "assets";

impl Composer<'_> {
    /// What the services need of one instance.
    pub(super) async fn asset<T>(
        &mut self,
        service: &RemoteAsset,
        item: &Item<T>,
        name: &InstanceName,
    ) -> Result<AssetInstance, ComposeError> {
        let database = self.database_of(service.sql.as_ref()).await?;
        let assets = Arc::new(SqlAssetStore::new(database, Arc::new(SystemClock)));
        self.expiry.add(Expiring::Assets(Arc::clone(&assets)), service.retention);
        let origin = match &service.fetch {
            Some(fetch) => Some(Arc::new(self.origin(fetch, item)?)),
            None => None,
        };
        Ok(AssetInstance {
            store: self.root(&service.storage, name).await?,
            assets,
            read_only: !service.allow_updates,
            functions: all_functions(),
            origin,
        })
    }

    fn origin<T>(&self, fetch: &AssetFetch, item: &Item<T>) -> Result<Origin, ComposeError> {
        let folder = self.state_directory()?.join(FOLDER);
        if let Err(source) = std::fs::create_dir_all(&folder) {
            return Err(ComposeError::StateDirectory { path: folder, source });
        }
        let options = OriginOptions {
            hosts: Hosts::new(fetch.hosts.iter().cloned()),
            internal_hosts: Hosts::new(fetch.internal_hosts.iter().cloned()),
            proxy: fetch.proxy.clone(),
            max_bytes: fetch.max_size,
            folder,
        };
        Origin::new(options).map_err(|error| ComposeError::Contradiction {
            place: item.place.to_string(),
            what: error.to_string(),
        })
    }
}
