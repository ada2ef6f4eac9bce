//! The document: [`ServerConfig`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use grid_core::InstanceName;

use super::{
    ActionCache, Authorization, Cleanup, ClientCredentials, Metering, RedisConnection, Scheduler,
    ServerOptions, ServerService, Service, Shared, SqlConnection, Storage,
};

/// A whole configuration.
#[derive(Debug, PartialEq)]
pub struct ServerConfig {
    /// What it is for.
    pub description: Option<String>,
    /// The addresses to listen on.
    pub channels: Vec<Channel>,
    /// Who may call.
    pub authorization: Authorization,
    /// Where BuildGrid's metrics are published; `None` for nowhere.
    pub monitoring: Option<Monitoring>,
    /// How many calls run at once.
    pub max_concurrent_calls: usize,
    /// How many connections are open at once.
    pub max_connections: usize,
    /// Whether the services are described by reflection.
    pub reflection: bool,
    /// How responses are compressed.
    pub compression: Compression,
    /// gRPC's options.
    pub options: ServerOptions,
    /// Connections to databases, defined for use elsewhere.
    pub sql_connections: Vec<Shared<SqlConnection>>,
    /// Connections to Redis, defined for use elsewhere.
    pub redis_connections: Vec<Shared<RedisConnection>>,
    /// Storages, defined for use elsewhere; those of the instances too.
    pub storages: Vec<Shared<Storage>>,
    /// Action caches, defined for use elsewhere; those of the instances too.
    pub caches: Vec<Shared<ActionCache>>,
    /// Schedulers, defined for use elsewhere; those of the instances too.
    pub schedulers: Vec<Shared<Scheduler>>,
    /// Metering, defined for schedulers to name.
    pub metering: Option<Shared<Metering>>,
    /// The instances.
    pub instances: Vec<Instance>,
    /// Services outside the instances.
    pub services: Vec<Shared<ServerService>>,
    /// What is kept within bounds.
    pub cleanup: Vec<Cleanup>,
    /// Where the admin address is.
    pub admin: Admin,
    /// The addresses of Bazel's HTTP cache.
    pub http_cache: Vec<Channel>,
    /// Where embedded databases live; `None` for the user's state directory.
    pub state_directory: Option<PathBuf>,
    /// Tokens between the parts of a grid.
    pub grid_credentials: GridCredentials,
    /// gRPC-web, where browsers are served.
    pub grpc_web: Option<GrpcWeb>,
    /// Servers beside this one, whose services' health is told here too.
    pub health_of: Vec<HealthOf>,
    /// How fast callers may be.
    pub rates: Rates,
    /// Where traces go; `None` for nowhere.
    pub tracing: Option<Tracing>,
    /// Where relative paths begin; `None` for the folder that the process was started in.
    pub working_directory: Option<PathBuf>,
}

/// `pod`: what a configuration for a machine needs to run in a pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The port at which the pod has to be reached.
    pub port: Option<u16>,
    /// Where relative paths begin.
    pub working_directory: Option<PathBuf>,
}

/// One element of `instances`.
#[derive(Debug, PartialEq)]
pub struct Instance {
    /// Its names, at least one.
    pub names: Vec<InstanceName>,
    /// What it is for.
    pub description: Option<String>,
    /// Its services.
    pub services: Vec<Shared<Service>>,
}

/// One `!channel`.
#[derive(Debug, PartialEq)]
pub struct Channel {
    /// Where to listen.
    pub endpoint: Endpoint,
    /// What is spoken there.
    pub transport: Transport,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and port.
    Tcp {
        /// A name or address; `::` for all of the machine's.
        host: String,
        /// The port; 0 for any free one.
        port: u16,
    },
    /// A UNIX socket.
    Unix(PathBuf),
}

/// What is spoken on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP/2.
    Insecure,
    /// TLS with these files.
    Tls(ServerCredentials),
    /// TLS with the files of BuildGrid's default places: nothing was said.
    DefaultTls,
}

/// A channel's key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCredentials {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The authorities that client certificates must come from; `None` where clients show none.
    pub client_authorities: Option<PathBuf>,
}

/// How responses are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip, for clients that accept it.
    Gzip,
}

/// `admin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `HOST:PORT`.
    pub address: String,
}

/// `grid-credentials`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GridCredentials {
    /// The file with the token that Bots asks for.
    pub worker_token: Option<PathBuf>,
    /// The file with the token that Fleet asks for.
    pub admin_token: Option<PathBuf>,
}

/// One of `health-of`.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthOf {
    /// `http://`, `https://`, `grpc://`, `grpcs://` or `unix:`.
    pub url: String,
    /// The full names of its services.
    pub services: Vec<String>,
    /// What is shown to it.
    pub credentials: ClientCredentials,
}

/// `grpc-web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcWeb {
    /// The origins of the pages that may call; `*` for any.
    pub origins: Vec<String>,
}

/// `rates`: calls a second; `None` for any number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of one subject.
    pub per_subject: Option<u32>,
    /// Over one connection.
    pub per_connection: Option<u32>,
}

/// `tracing`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The collector's URL for OTLP over HTTP, without a path.
    pub endpoint: String,
    /// Which part of the calls is traced whose clients say nothing of traces, from 0 to 1.
    pub sample: f64,
    /// What the spans' resource is called.
    pub service_name: String,
}

/// `monitoring`, where it is enabled.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitoring {
    /// Where to.
    pub target: MonitoringTarget,
    /// In which form.
    pub format: MonitoringFormat,
    /// What every metric's name starts with, without a dot at its end; may be empty.
    pub prefix: String,
    /// How tags are written in the statsd form.
    pub tags: TagFormat,
    /// Tags that every metric gets.
    pub additional_tags: BTreeMap<String, String>,
}

/// Where metrics are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitoringTarget {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
    /// A UNIX socket to listen at.
    Socket(PathBuf),
    /// `HOST:PORT`, by UDP.
    Udp(String),
}

/// The form of what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitoringFormat {
    /// Protocol buffers, each after its length.
    Binary,
    /// JSON, one message a line.
    Json,
    /// StatsD lines.
    Statsd,
}

/// How tags are written in the statsd form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagFormat {
    /// They aren't.
    None,
    /// `name,key=value:…`
    Influx,
    /// `…|#key:value`
    Dog,
    /// `name;key=value:…`
    Graphite,
}
