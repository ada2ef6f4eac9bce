//! [`RemoteCapabilities`]: the capabilities of another server, asked over gRPC and remembered for a while.

use std::time::Duration;

use async_trait::async_trait;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::{GetCapabilitiesRequest, ServerCapabilities};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::RpcError;
use crate::capabilities::CapabilitySource;

/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(60);
/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An instance of another server. While that server is away, what it said last stands.
#[derive(Debug)]
pub struct RemoteCapabilities {
    channel: Channel,
    instance: String,
    last: Mutex<Option<(Instant, ServerCapabilities)>>,
}

impl RemoteCapabilities {
    /// The capabilities of `instance` behind `channel`.
    #[must_use]
    pub fn new(channel: Channel, instance: &str) -> Self {
        Self { channel, instance: instance.into(), last: Mutex::new(None) }
    }
}

#[async_trait]
impl CapabilitySource for RemoteCapabilities {
    async fn capabilities(&self) -> Result<ServerCapabilities, RpcError> {
        let last = self.last.lock().clone();
        if let Some((at, answer)) = &last
            && at.elapsed() < FRESH
        {
            return Ok(answer.clone());
        }
        let mut client = CapabilitiesClient::new(self.channel.clone());
        let request = GetCapabilitiesRequest { instance_name: self.instance.clone() };
        let asked = tokio::time::timeout(TIMEOUT, client.get_capabilities(request)).await;
        let failure = match asked {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                *self.last.lock() = Some((Instant::now(), answer.clone()));
                return Ok(answer);
            }
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(instance = self.instance, failure, "a remote server does not tell its capabilities");
        let unknown =
            || RpcError::Unavailable("a server behind this one does not tell its capabilities".into());
        last.map(|(_, answer)| answer).ok_or_else(unknown)
    }
}
