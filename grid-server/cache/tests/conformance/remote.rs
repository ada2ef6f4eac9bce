//! `!remote-action-cache` against a server of this test's own.

use std::sync::Arc;
use std::time::Duration;

use grid_cache::backends::remote::Remote;
use grid_cache::conformance::{Subject, action, result};
use grid_cache::{ActionCache, CacheError, SharedCache};
use grid_cas::StoreError;
use grid_cas::client::{Connection, ConnectionOptions, Patience};
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::action_cache_server::ActionCacheServer;
use grid_proto::reapi::{self, ActionResult, GetActionResultRequest, UpdateActionResultRequest};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::trees::lru;

struct Service(SharedCache);

fn parse(instance: &str, function: i32, digest: Option<reapi::Digest>) -> Digest {
    assert_eq!(instance, "main");
    let digest = digest.unwrap();
    Digest::parse(DigestFunction::from_wire(function).unwrap(), &digest.hash, digest.size_bytes).unwrap()
}

#[tonic::async_trait]
impl reapi::action_cache_server::ActionCache for Service {
    async fn get_action_result(
        &self,
        request: Request<GetActionResultRequest>,
    ) -> Result<Response<ActionResult>, Status> {
        let request = request.into_inner();
        let action = parse(&request.instance_name, request.digest_function, request.action_digest);
        let found = self.0.get(&action).await.unwrap();
        found.map(Response::new).ok_or_else(|| Status::not_found("no result"))
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<ActionResult>, Status> {
        let request = request.into_inner();
        let action = parse(&request.instance_name, request.digest_function, request.action_digest);
        let result = request.action_result.unwrap();
        self.0.update(&action, &result).await.map_err(|_| Status::permission_denied("read-only"))?;
        Ok(Response::new(result))
    }
}

async fn remote(cache: SharedCache) -> Remote {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = ActionCacheServer::new(Service(cache)).max_decoding_message_size(64 << 20);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Remote::new(Connection::new(ConnectionOptions::new(&url, "main")).unwrap())
}

/// A second server's cache.
pub(crate) async fn subject(cache: SharedCache) -> Subject {
    Subject::new(Arc::new(remote(cache).await)).served()
}

#[tokio::test]
async fn what_the_server_forbids_is_told_as_such() {
    let read_only = grid_cache::decorators::allow_updates::ReadOnly::new(lru());
    let cache = remote(Arc::new(read_only)).await;
    let refused = cache.update(&action(1), &result(1)).await;
    assert!(matches!(refused, Err(CacheError::UpdatesNotAllowed)), "{refused:?}");
    assert!(matches!(cache.delete(&action(1)).await, Err(CacheError::Store(StoreError::Refused { .. }))));
}

#[tokio::test]
async fn a_server_that_is_away_is_trouble_and_no_miss() {
    let patience = Patience { wait: Duration::from_millis(200), ..Patience::default() };
    let options = ConnectionOptions { patience, ..ConnectionOptions::new("http://127.0.0.1:1", "main") };
    let cache = Remote::new(Connection::new(options).unwrap());
    let answer = cache.get(&action(1)).await;
    assert!(matches!(answer, Err(CacheError::Store(StoreError::Unavailable { .. }))), "{answer:?}");
}
