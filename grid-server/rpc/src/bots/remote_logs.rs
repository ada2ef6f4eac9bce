//! [`RemoteLogs`]: log streams of leases at another server (a scheduler's `logstream`).
//!
//! Bots write there and clients read there, by the names that it gives; nothing of a log comes through this server. That
//! server may be away: leases don't wait for it, and run without streams.

use std::time::Duration;

use futures::stream;
use grid_cas::StoreError;
use grid_cas::breaker::Breaker;
use grid_cas::client::{AuthorizedChannel, Connection};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{QueryWriteStatusRequest, QueryWriteStatusResponse, WriteRequest};
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use grid_proto::logstream::{CreateLogStreamRequest, LogStream};

/// How long the writer of a lease that is over may take for what is left.
const QUIET: Duration = Duration::from_secs(2);

/// The log streams of another server.
#[derive(Debug)]
pub struct RemoteLogs {
    connection: Connection,
    streams: LogStreamServiceClient<AuthorizedChannel>,
    bytes: ByteStreamClient<AuthorizedChannel>,
    breaker: Breaker<StoreError>,
}

impl RemoteLogs {
    /// The log streams behind `connection`. Nothing is sent yet.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        let streams = LogStreamServiceClient::new(connection.channel());
        let bytes = ByteStreamClient::new(connection.channel());
        Self { connection, streams, bytes, breaker: Breaker::default() }
    }

    /// Makes a stream beneath `parent`; fails at once while it is known that the server is away.
    pub(super) async fn create(&self, parent: &str) -> Result<LogStream, StoreError> {
        let call = || {
            let (mut client, parent) = (self.streams.clone(), parent.to_owned());
            async move { client.create_log_stream(CreateLogStreamRequest { parent }).await }
        };
        let made = async {
            let made = self.connection.patience().call(call).await;
            made.map_err(|status| self.connection.error(&status, None))
        };
        self.breaker.call(made).await.map(tonic::Response::into_inner)
    }

    /// Ends a stream once its writer has ended it or has been quiet for a while.
    pub(super) async fn end(&self, write_name: &str) -> Result<(), StoreError> {
        let mut before = None;
        loop {
            let now = self.state(write_name).await?;
            if now.complete {
                return Ok(());
            }
            if before == Some(now.committed_size) {
                return self.finish(write_name, now.committed_size).await;
            }
            before = Some(now.committed_size);
            tokio::time::sleep(QUIET).await;
        }
    }

    /// How far the stream is. While nothing is written, a server may hold the answer until a reader comes.
    async fn state(&self, write_name: &str) -> Result<QueryWriteStatusResponse, StoreError> {
        let call = || {
            let (mut client, resource_name) = (self.bytes.clone(), write_name.to_owned());
            async move {
                let asked = client.query_write_status(QueryWriteStatusRequest { resource_name });
                let held = |_| Ok(QueryWriteStatusResponse::default());
                let answer = tokio::time::timeout(QUIET, asked).await;
                answer.map_or_else(held, |answer| answer.map(tonic::Response::into_inner))
            }
        };
        let state = self.connection.patience().call(call).await;
        state.map_err(|status| self.connection.error(&status, None))
    }

    async fn finish(&self, write_name: &str, write_offset: i64) -> Result<(), StoreError> {
        let last = WriteRequest {
            resource_name: write_name.to_owned(),
            write_offset,
            finish_write: true,
            ..WriteRequest::default()
        };
        let call = || {
            let (mut client, last) = (self.bytes.clone(), last.clone());
            async move { client.write(stream::iter([last])).await }
        };
        let finished = self.connection.patience().call(call).await;
        finished.map(drop).map_err(|status| self.connection.error(&status, None))
    }
}
