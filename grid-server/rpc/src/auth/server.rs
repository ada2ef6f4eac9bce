//! Callers judged by another server (BuildGrid's `method: server`): it is asked whether the bearer of a token may call a
//! method in an instance, and who that is.
//!
//! An answer stands for a while, so that a build of ten thousand calls asks a handful of times. A server that does not
//! answer lets nobody in.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::client::{AuthorizedChannel, Connection};
use grid_proto::buildgrid::AuthorizeRequest;
use grid_proto::buildgrid::auth_client::AuthClient;
use moka::future::Cache;
use tonic::{Code, Request, Status};

use super::{Authorizer, Identity};
use crate::RpcError;

/// How many answers are remembered.
const REMEMBERED: u64 = 10_000;
/// How long a caller who was let in is not asked about again.
const LET_IN_FOR: Duration = Duration::from_secs(30);
/// How long one who was refused is not.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// Instance, method and token.
type Question = (Box<str>, Box<str>, Box<str>);

/// Asks `build.buildgrid.Auth`.
#[derive(Clone)]
pub struct AuthServer {
    client: AuthClient<AuthorizedChannel>,
    timeout: Duration,
    let_in: Cache<Question, Arc<Identity>>,
    refused: Cache<Question, RpcError>,
}

impl Debug for AuthServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthServer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl AuthServer {
    /// Asks over `connection`, and waits for `timeout` at most.
    #[must_use]
    pub fn new(connection: &Connection, timeout: Duration) -> Self {
        Self {
            client: AuthClient::new(connection.channel()),
            timeout,
            let_in: Cache::builder().max_capacity(REMEMBERED).time_to_live(LET_IN_FOR).build(),
            refused: Cache::builder().max_capacity(REMEMBERED).time_to_live(REFUSED_FOR).build(),
        }
    }

    async fn ask(&self, instance: &str, method: &str, token: &str) -> Result<Arc<Identity>, RpcError> {
        let mut request = Request::new(AuthorizeRequest {
            instance_name: instance.to_owned(),
            method: method.to_owned(),
            token: Bytes::copy_from_slice(token.as_bytes()),
        });
        request.set_timeout(self.timeout);
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(self.timeout, client.authorize(request)).await;
        let late = |_| RpcError::Unavailable("the authorization server does not answer".into());
        let found = answer.map_err(late)?.map_err(|status| refusal(&status))?.into_inner();
        Ok(Arc::new(Identity { subject: found.subject, actor: found.actor, workflow: found.workflow }))
    }
}

/// What its refusal means to our caller. What the server says of itself stays in the log.
fn refusal(status: &Status) -> RpcError {
    match status.code() {
        Code::Unauthenticated => {
            RpcError::Unauthenticated("No valid authorization or authentication provided".into())
        }
        Code::PermissionDenied => RpcError::PermissionDenied("Not permitted to make this request".into()),
        code => {
            tracing::warn!(?code, message = status.message(), "the authorization server can't tell");
            RpcError::Unavailable("the authorization server can't tell just now".into())
        }
    }
}

#[async_trait]
impl Authorizer for AuthServer {
    async fn authorize(&self, instance: &str, method: &str, token: &str) -> Result<Arc<Identity>, RpcError> {
        let question: Question = (instance.into(), method.into(), token.into());
        if let Some(refusal) = self.refused.get(&question).await {
            return Err(refusal);
        }
        // Calls that ask the same at once wait for one answer.
        let answer = self.let_in.try_get_with(question.clone(), self.ask(instance, method, token)).await;
        match answer {
            Ok(identity) => Ok(identity),
            Err(refusal) => {
                let refusal = (*refusal).clone();
                if matches!(refusal, RpcError::Unauthenticated(_) | RpcError::PermissionDenied(_)) {
                    self.refused.insert(question, refusal.clone()).await;
                }
                Err(refusal)
            }
        }
    }
}
