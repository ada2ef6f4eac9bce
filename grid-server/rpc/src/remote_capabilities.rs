//! [`RemoteCapabilities`]: the capabilities of another server, asked over gRPC and remembered for a while.

use std::time::Duration;

use async_trait::async_trait;
use grid_cas::client::Connection;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::{GetCapabilitiesRequest, ServerCapabilities};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::RpcError;
use crate::capabilities::CapabilitySource;

/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(60);
/// How long a server is waited for that told its capabilities before: what it said then is good enough.
const TIMEOUT: Duration = Duration::from_secs(2);

/// An instance of another server. While that server is away, what it said last stands; before it said anything it is
/// waited for (see [`grid_cas::client::Patience`]).
#[derive(Debug)]
pub struct RemoteCapabilities {
    connection: Connection,
    last: Mutex<Option<(Instant, ServerCapabilities)>>,
}

impl RemoteCapabilities {
    /// The capabilities of the instance behind `connection`.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, last: Mutex::new(None) }
    }

    async fn ask(&self) -> Result<ServerCapabilities, String> {
        let request = GetCapabilitiesRequest { instance_name: self.connection.instance_name().to_owned() };
        let call = || {
            let (mut client, request) = (CapabilitiesClient::new(self.connection.channel()), request.clone());
            async move { client.get_capabilities(request).await }
        };
        let answer = self.connection.patience().call(call).await;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        *self.last.lock() = Some((Instant::now(), answer.clone()));
        Ok(answer)
    }
}

#[async_trait]
impl CapabilitySource for RemoteCapabilities {
    async fn capabilities(&self) -> Result<ServerCapabilities, RpcError> {
        let last = self.last.lock().clone();
        let asked = match &last {
            Some((at, answer)) if at.elapsed() < FRESH => return Ok(answer.clone()),
            Some(_) => {
                tokio::time::timeout(TIMEOUT, self.ask()).await.unwrap_or(Err("no answer in time".into()))
            }
            None => self.ask().await,
        };
        let failure = match asked {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        tracing::warn!(server = %self.connection.name(), failure, "a remote server does not tell its capabilities");
        let unknown =
            || RpcError::Unavailable("a server behind this one does not tell its capabilities".into());
        last.map(|(_, answer)| answer).ok_or_else(unknown)
    }
}
