//! The Remote Asset API: which blob or directory a URI stands for, and how it comes into the storage.
//!
//! [`push`] records what clients say (`BuildStream` keeps its artifacts and sources so), [`fetch`] finds it again, and
//! [`origin`] gets from http and https what nobody pushed (Bazel's `--experimental_remote_downloader`). An asset is
//! given only while all of it is in the storage. Neighbours: `grid-streams` keeps the records. This module refuses to
//! unpack archives and to clone repositories.

mod checksum;
mod fetch;
mod flights;
pub mod origin;
mod presence;
mod push;
mod qualifiers;

use std::sync::Arc;

use grid_cas::SharedStore;
use grid_core::Clock;
use grid_proto::asset::fetch_server::Fetch;
use grid_proto::asset::push_server::Push;
use grid_proto::asset::{
    FetchBlobRequest, FetchBlobResponse, FetchDirectoryRequest, FetchDirectoryResponse, PushBlobRequest,
    PushBlobResponse, PushDirectoryRequest, PushDirectoryResponse,
};
use grid_streams::AssetStore;
use tonic::{Request, Response, Status};

use crate::digests::{Functions, to_wire};
use crate::error::status;
use crate::{Instances, RpcError};
use fetch::{Found, Search, Wanted};
use flights::Flights;
use origin::Origin;
use push::Pushed;

/// The most URIs of one request, and the longest of them in bytes.
const MAX_URIS: usize = 100;
const MAX_URI: usize = 8 << 10;

/// What the Remote Asset services need to know of one instance.
#[derive(Clone, Debug)]
pub struct AssetInstance {
    /// Where assets' content is.
    pub store: SharedStore,
    /// What is known of assets.
    pub assets: Arc<dyn AssetStore>,
    /// Whether pushes are refused.
    pub read_only: bool,
    /// The digest functions that the instance takes.
    pub functions: Functions,
    /// How assets are fetched that nobody pushed; `None` where they aren't.
    pub origin: Option<Arc<Origin>>,
}

/// The `Fetch` and `Push` services.
#[derive(Clone, Debug)]
pub struct AssetService {
    instances: Instances<AssetInstance>,
    clock: Arc<dyn Clock>,
    flights: Arc<Flights>,
}

impl AssetService {
    /// Services over the instances that have assets.
    #[must_use]
    pub fn new(instances: Instances<AssetInstance>, clock: Arc<dyn Clock>) -> Self {
        Self { instances, clock, flights: Arc::default() }
    }

    async fn search(&self, wanted: &Wanted) -> Result<Found, Status> {
        let (name, instance) = self.instances.entry(&wanted.instance).await.map_err(status)?;
        let search =
            Search::new(instance, name.as_str(), self.clock.now(), wanted, &self.flights).map_err(status)?;
        search.run().await
    }

    async fn record(&self, pushed: Pushed) -> Result<(), Status> {
        let (name, instance) = self.instances.entry(&pushed.instance).await.map_err(status)?;
        push::push(instance, name.as_str(), self.clock.now(), pushed).await
    }
}

fn check_uris(uris: &[String]) -> Result<(), RpcError> {
    if uris.is_empty() || uris.len() > MAX_URIS {
        return Err(RpcError::field("uris", format!("are {}; expected 1 to {MAX_URIS}", uris.len())));
    }
    match uris.iter().find(|uri| uri.is_empty() || uri.len() > MAX_URI) {
        Some(uri) => {
            let problem = format!("holds one of {} bytes; expected 1 to {MAX_URI}", uri.len());
            Err(RpcError::field("uris", problem))
        }
        None => Ok(()),
    }
}

/// Fills either fetching answer.
macro_rules! answer {
    ($found:expr, $wanted:expr, $answer:ident { $digest:ident }) => {{
        let (found, wanted) = ($found, $wanted);
        let time = |at: grid_core::Timestamp| {
            let (seconds, nanos) = at.to_parts();
            prost_types::Timestamp { seconds, nanos }
        };
        let qualifiers = if found.digest.is_some() { wanted.qualifiers } else { Vec::new() };
        Ok(Response::new($answer {
            status: Some(found.status),
            uri: found.uri,
            qualifiers,
            expires_at: found.expires_at.map(time),
            digest_function: found.digest.map_or(0, |digest| digest.function().to_wire()),
            $digest: found.digest.as_ref().map(to_wire),
        }))
    }};
}

#[tonic::async_trait]
impl Fetch for AssetService {
    async fn fetch_blob(
        &self,
        request: Request<FetchBlobRequest>,
    ) -> Result<Response<FetchBlobResponse>, Status> {
        let wanted = Wanted::from(request.into_inner());
        answer!(self.search(&wanted).await?, wanted, FetchBlobResponse { blob_digest })
    }

    async fn fetch_directory(
        &self,
        request: Request<FetchDirectoryRequest>,
    ) -> Result<Response<FetchDirectoryResponse>, Status> {
        let wanted = Wanted::from(request.into_inner());
        answer!(self.search(&wanted).await?, wanted, FetchDirectoryResponse { root_directory_digest })
    }
}

#[tonic::async_trait]
impl Push for AssetService {
    async fn push_blob(
        &self,
        request: Request<PushBlobRequest>,
    ) -> Result<Response<PushBlobResponse>, Status> {
        self.record(request.into_inner().into()).await?;
        Ok(Response::new(PushBlobResponse {}))
    }

    async fn push_directory(
        &self,
        request: Request<PushDirectoryRequest>,
    ) -> Result<Response<PushDirectoryResponse>, Status> {
        self.record(request.into_inner().into()).await?;
        Ok(Response::new(PushDirectoryResponse {}))
    }
}
