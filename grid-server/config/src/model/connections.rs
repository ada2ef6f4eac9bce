//! Connections: databases, Redis, other gRPC servers.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `!sql-connection`.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlConnection {
    /// `postgresql://…` or `sqlite:///…`, in SQLAlchemy's forms.
    pub connection_string: Secret,
    /// How long a connection may take to be made.
    pub connection_timeout: Duration,
    /// How long a statement waits for a lock; zero for ever.
    pub lock_timeout: Duration,
    /// How many connections are kept open.
    pub pool_size: u32,
    /// How many more may be open for a while.
    pub max_overflow: u32,
    /// How long a call waits for a free connection.
    pub pool_timeout: Duration,
    /// The age at which a connection is replaced.
    pub pool_recycle: Option<Duration>,
    /// Whether the server migrates the database at start.
    pub automigrate: bool,
    /// The name in metrics.
    pub name: String,
}

/// `!redis-connection`.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConnection {
    /// The host of the server, or of the sentinels.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub db: u32,
    /// The name under which sentinels know the primary; then the address is theirs.
    pub sentinel_master: Option<String>,
    /// How often a call is tried again when the connection broke.
    pub retries: u32,
    /// The version of the RESP protocol, 2 or 3.
    pub protocol: Option<u32>,
}

/// Another server of the Remote Execution API.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// `http://`, `https://`, `grpc://`, `grpcs://` or `unix:`.
    pub url: String,
    /// The instance there; `None` for the one that is called here.
    pub instance_name: Option<String>,
    /// What is shown to the server.
    pub credentials: ClientCredentials,
    /// gRPC's options.
    pub options: ClientOptions,
    /// How often a call is tried again.
    pub retries: u32,
    /// The longest wait between two tries.
    pub max_backoff: Duration,
    /// How long a call may take.
    pub request_timeout: Option<Duration>,
}

/// What a connection shows to a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientCredentials {
    /// The client's private key, PEM.
    pub key: Option<PathBuf>,
    /// The client's certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// The authorities that the server's certificate must come from; `None` for the system's.
    pub authorities: Option<PathBuf>,
    /// A file with a bearer token.
    pub token: Option<PathBuf>,
    /// How often the token is read again.
    pub token_refresh: Option<Duration>,
}

/// How a client spreads calls over the addresses of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// All calls go to one address.
    PickFirst,
    /// Calls go to all addresses.
    #[default]
    RoundRobin,
}

/// gRPC's options for a connection that we make.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientOptions {
    /// How often an idle connection is tried.
    pub keepalive_time: Option<Duration>,
    /// How long the answer may take.
    pub keepalive_timeout: Option<Duration>,
    /// Whether it is tried without calls too.
    pub keepalive_without_calls: bool,
    /// The largest message taken, in bytes.
    pub max_receive_message: Option<usize>,
    /// The largest message sent, in bytes.
    pub max_send_message: Option<usize>,
    /// The flow-control window of a stream, in bytes.
    pub stream_window: Option<u32>,
    /// Whether the window grows with the connection's bandwidth.
    pub adaptive_window: Option<bool>,
    /// How calls are spread.
    pub load_balancing: LoadBalancing,
    /// What `:authority` says.
    pub authority: Option<String>,
    /// The name that the server's certificate must have.
    pub tls_name: Option<String>,
    /// What `user-agent` starts with.
    pub user_agent: Option<String>,
}

/// gRPC's options for the connections that we take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerOptions {
    /// How often an idle connection is tried.
    pub keepalive_time: Option<Duration>,
    /// How long the answer may take.
    pub keepalive_timeout: Option<Duration>,
    /// The age at which a connection is asked to end.
    pub max_connection_age: Option<Duration>,
    /// How long its calls may still run.
    pub max_connection_age_grace: Option<Duration>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Option<Duration>,
    /// How many calls a connection may have at once.
    pub max_concurrent_streams: Option<u32>,
    /// The largest message taken, in bytes.
    pub max_receive_message: Option<usize>,
    /// The largest message sent, in bytes.
    pub max_send_message: Option<usize>,
    /// The flow-control window of a stream, in bytes.
    pub stream_window: Option<u32>,
    /// Whether the window grows with the connection's bandwidth.
    pub adaptive_window: Option<bool>,
    /// The largest frame taken, in bytes.
    pub max_frame_size: Option<u32>,
    /// The largest sum of a call's headers, in bytes.
    pub max_header_size: Option<u32>,
}
