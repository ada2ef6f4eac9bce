//! [`Tuning`]: what a configuration may say about the connection itself (`channel-options`, gRPC's channel arguments).

use std::time::Duration;

use tonic::transport::Endpoint;

/// The first pings of an idle connection come after this, and so long may their answers take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Room on the way for one large blob at full speed, bounded for a thousand slow ones. In bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// What differs from our defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// How often a connection is tried (`keepalive-time-ms`).
    pub keepalive_time: Option<Duration>,
    /// How long the answer may take (`keepalive-timeout-ms`).
    pub keepalive_timeout: Option<Duration>,
    /// Whether it is tried without calls too (`keepalive-permit-without-calls`).
    pub keepalive_without_calls: bool,
    /// The largest message taken, in bytes (`max-receive-message-length`).
    pub max_receive_message: Option<usize>,
    /// The largest message sent, in bytes (`max-send-message-length`).
    pub max_send_message: Option<usize>,
    /// The flow-control window of a stream, in bytes (`http2.lookahead-bytes`).
    pub stream_window: Option<u32>,
    /// Whether windows grow with the connection's bandwidth (`http2.bdp-probe`).
    pub adaptive_window: Option<bool>,
    /// Whether all calls go to one of the name's addresses (`lb-policy-name: pick_first`).
    pub one_address: bool,
    /// What `:authority` says (`default-authority`).
    pub authority: Option<String>,
    /// The name that the server's certificate must have (`ssl-target-name-override`).
    pub tls_name: Option<String>,
    /// What `user-agent` starts with (`primary-user-agent`).
    pub user_agent: Option<String>,
}

impl Tuning {
    /// The endpoint with all of this that is about connections.
    ///
    /// # Errors
    /// For a user agent that no header can hold.
    pub(super) fn apply(&self, endpoint: Endpoint) -> Result<Endpoint, String> {
        let window = self.stream_window.unwrap_or(STREAM_WINDOW);
        let endpoint = endpoint
            .http2_keep_alive_interval(self.keepalive_time.unwrap_or(KEEP_ALIVE))
            .keep_alive_timeout(self.keepalive_timeout.unwrap_or(KEEP_ALIVE))
            .keep_alive_while_idle(self.keepalive_without_calls)
            .initial_stream_window_size(window)
            .initial_connection_window_size(window.max(CONNECTION_WINDOW))
            .http2_adaptive_window(self.adaptive_window.unwrap_or(false));
        match &self.user_agent {
            Some(agent) => {
                endpoint.user_agent(agent.as_str()).map_err(|error| format!("primary-user-agent: {error}"))
            }
            None => Ok(endpoint),
        }
    }
}
