//! `!remote-action-cache`: results in another server that speaks REAPI's ActionCache.
//!
//! A server that is away is waited for (see [`grid_cas::client::Patience`]). REAPI can neither delete a result nor keep
//! the first of two: `delete` and `insert` are refused rather than done halfway.

use std::sync::Arc;

use async_trait::async_trait;
use grid_cas::StoreError;
use grid_cas::client::{AuthorizedChannel, Connection};
use grid_core::Digest;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::{self, ActionResult, GetActionResultRequest, UpdateActionResultRequest};
use tonic::Code;

use crate::{ActionCache, CacheError};

/// A result with many output files is larger than the 4 MiB that clients take by default. In bytes.
const MESSAGE: usize = 64 * 1024 * 1024;

/// Results in another server.
#[derive(Clone, Debug)]
pub struct Remote {
    connection: Connection,
    client: ActionCacheClient<AuthorizedChannel>,
}

impl Remote {
    /// The cache behind `connection`. Nothing is sent yet.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        let client = ActionCacheClient::new(connection.channel())
            .max_decoding_message_size(connection.max_receive(MESSAGE))
            .max_encoding_message_size(connection.max_send());
        Self { connection, client }
    }

    fn refused(&self, what: &str) -> CacheError {
        let backend = Arc::clone(self.connection.name());
        let message = format!("{what} through the remote execution API; configure it on that server");
        CacheError::Store(StoreError::Refused { backend, message })
    }
}

fn wire(digest: &Digest) -> Option<reapi::Digest> {
    Some(reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() })
}

#[async_trait]
impl ActionCache for Remote {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        let request = GetActionResultRequest {
            instance_name: self.connection.instance_name().to_owned(),
            action_digest: wire(action),
            digest_function: action.function().to_wire(),
            ..GetActionResultRequest::default()
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.get_action_result(request).await }
        };
        match self.connection.patience().call(call).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.connection.error(&status, None).into()),
        }
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let request = UpdateActionResultRequest {
            instance_name: self.connection.instance_name().to_owned(),
            action_digest: wire(action),
            action_result: Some(result.clone()),
            digest_function: action.function().to_wire(),
            ..UpdateActionResultRequest::default()
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.update_action_result(request).await }
        };
        match self.connection.patience().call(call).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::PermissionDenied => Err(CacheError::UpdatesNotAllowed),
            Err(status) if status.code() == Code::AlreadyExists => Err(CacheError::AlreadyWritten(*action)),
            Err(status) => Err(self.connection.error(&status, None).into()),
        }
    }

    async fn insert(&self, _: &Digest, _: &ActionResult) -> Result<(), CacheError> {
        Err(self.refused("the first of two results can't be kept"))
    }

    async fn delete(&self, _: &Digest) -> Result<(), CacheError> {
        Err(self.refused("a result can't be deleted"))
    }

    /// Only the server knows; it refuses those that it does not allow.
    fn allows_updates(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), CacheError> {
        let absent = Digest::of(grid_core::DigestFunction::Sha256, b"probe");
        let request = GetActionResultRequest {
            instance_name: self.connection.instance_name().to_owned(),
            action_digest: wire(&absent),
            digest_function: absent.function().to_wire(),
            ..GetActionResultRequest::default()
        };
        let mut client = self.client.clone();
        match self.connection.patience().attempt(client.get_action_result(request)).await {
            Err(status) if status.code() != Code::NotFound => {
                Err(self.connection.error(&status, None).into())
            }
            _ => Ok(()),
        }
    }
}
