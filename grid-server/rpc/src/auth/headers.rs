//! Callers told by headers that a trusted proxy sets (BuildGrid's `method: headers`).

use async_trait::async_trait;
use http::request::Parts;

use super::{Authenticator, Identity};
use crate::RpcError;

/// Reads `x-request-subject`, `x-request-actor` and `x-request-workflow`; all three are needed.
///
/// Whoever can reach the server past the proxy can claim to be anyone: the network has to see to that.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderAuthenticator;

#[async_trait]
impl Authenticator for HeaderAuthenticator {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Identity>, RpcError> {
        let header = |name| request.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let parts = (header("x-request-subject"), header("x-request-actor"), header("x-request-workflow"));
        Ok(match parts {
            (Some(subject), Some(actor), Some(workflow)) => Some(Identity { subject, actor, workflow }),
            _ => None,
        })
    }
}
