//! Services: one variant a tag.

use std::time::Duration;

use super::{ActionCache, Scheduler, Shared, SqlConnection, Storage};

/// A gRPC service of an instance.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful exist, each behind an Arc")]
pub enum Service {
    /// `!action-cache`
    ActionCache(ActionCacheService),
    /// `!cas`
    Cas(Cas),
    /// `!bytestream`
    ByteStream(ByteStream),
    /// `!execution`
    Execution(Execution),
    /// `!bots`
    Bots(Bots),
    /// `!operations`
    Operations(Operations),
    /// `!fleet`
    Fleet(Fleet),
    /// `!introspection`
    Introspection(Introspection),
    /// `!logstream`, `!memory-logstream-storage`
    LogStream(LogStream),
    /// `!build-events`, `!memory-build-events`
    BuildEvents(BuildEvents),
    /// `!remote-asset`, `!reference-cache`
    RemoteAsset(RemoteAsset),
}

/// A gRPC service outside the instances.
#[derive(Debug, PartialEq)]
pub enum ServerService {
    /// `!quota-service`
    Quota(Quota),
}

/// BuildGrid's Quota service.
#[derive(Debug, PartialEq)]
pub struct Quota {
    /// The scheduler that holds to the quotas.
    pub scheduler: Shared<Scheduler>,
}

/// The ActionCache service.
#[derive(Debug, PartialEq)]
pub struct ActionCacheService {
    /// The cache to serve.
    pub cache: Shared<ActionCache>,
}

/// The ContentAddressableStorage service.
#[derive(Debug, PartialEq)]
pub struct Cas {
    /// The storage to serve.
    pub storage: Shared<Storage>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether SplitBlob and SpliceBlob are served.
    pub chunking: bool,
    /// The largest blob that is taken, in bytes.
    pub max_blob_size: Option<u64>,
}

/// The ByteStream service.
#[derive(Debug, PartialEq)]
pub struct ByteStream {
    /// The storage to serve; `None` for log streams alone.
    pub storage: Option<Shared<Storage>>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether a blob that is there already is received anew.
    pub always_receive: bool,
    /// Where unfinished uploads wait; `None` for the embedded database, where there is one.
    pub sql: Option<Shared<SqlConnection>>,
    /// The largest blob that is taken, in bytes.
    pub max_blob_size: Option<u64>,
}

/// Which parts of Execution an `!execution` serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The Execution service.
    pub execution: bool,
    /// The Operations service.
    pub operations: bool,
    /// The Bots service.
    pub bots: bool,
}

/// What a service says about its scheduler, in the place of what the scheduler says itself.
#[derive(Debug, Default, PartialEq)]
pub struct SchedulerOverrides {
    /// Where the actions are and the results go.
    pub storage: Option<Shared<Storage>>,
    /// Where results are looked up and kept.
    pub action_cache: Option<Shared<ActionCache>>,
    /// The longest that an action may run.
    pub max_execution_timeout: Option<Duration>,
    /// How long a bot may stay silent.
    pub bot_session_keepalive: Option<Duration>,
    /// The base URL of a browser for actions.
    pub browser_url: Option<String>,
    /// Keys that a bot must match.
    pub property_keys: Option<Vec<String>>,
    /// Keys that a job may give and no bot needs to match.
    pub wildcard_property_keys: Option<Vec<String>>,
}

/// The Execution, Operations and Bots services.
#[derive(Debug, PartialEq)]
pub struct Execution {
    /// The scheduler.
    pub scheduler: Shared<Scheduler>,
    /// What is said about it here.
    pub overrides: SchedulerOverrides,
    /// How often a stream without news repeats the last.
    pub stream_keepalive: Duration,
    /// Which services.
    pub endpoints: Endpoints,
    /// How many operations a page has at most.
    pub max_page_size: u32,
    /// The programs that actions may run; `None` for all.
    pub command_allowlist: Option<Vec<String>>,
    /// Whether a bot that has work already waits for more.
    pub long_poll_when_busy: bool,
    /// Whether a job that no client waits for is cancelled.
    pub discard_unwatched: bool,
}

/// The Bots service.
#[derive(Debug, PartialEq)]
pub struct Bots {
    /// The scheduler.
    pub scheduler: Shared<Scheduler>,
    /// What is said about it here.
    pub overrides: SchedulerOverrides,
    /// Whether a bot that has work already waits for more.
    pub long_poll_when_busy: bool,
}

/// The Operations service.
#[derive(Debug, PartialEq)]
pub struct Operations {
    /// The scheduler.
    pub scheduler: Shared<Scheduler>,
    /// How many operations a page has at most.
    pub max_page_size: u32,
}

/// The Fleet service.
#[derive(Debug, PartialEq)]
pub struct Fleet {
    /// The scheduler.
    pub scheduler: Shared<Scheduler>,
}

/// BuildGrid's Introspection service.
#[derive(Debug, PartialEq)]
pub struct Introspection {
    /// The scheduler.
    pub scheduler: Shared<Scheduler>,
}

/// The LogStream service.
#[derive(Clone, Debug, PartialEq)]
pub struct LogStream {
    /// What the names start with.
    pub prefix: String,
    /// The database; `None` for the embedded one.
    pub sql: Option<Shared<SqlConnection>>,
    /// How long a stream stays after its last use.
    pub retention: Duration,
}

/// The Build Events services.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildEvents {
    /// The database; `None` for the embedded one.
    pub sql: Option<Shared<SqlConnection>>,
    /// How long a stream stays after its last event.
    pub retention: Duration,
    /// The most bytes of events in an answer.
    pub max_answer: u64,
    /// The most bytes of events that one stream keeps.
    pub max_stream_size: u64,
}

/// The Remote Asset services.
#[derive(Debug, PartialEq)]
pub struct RemoteAsset {
    /// The storage with the content.
    pub storage: Shared<Storage>,
    /// The database; `None` for the embedded one.
    pub sql: Option<Shared<SqlConnection>>,
    /// Whether clients may push.
    pub allow_updates: bool,
    /// How long an asset stays that nobody asks for.
    pub retention: Duration,
    /// What is fetched that nobody pushed; `None` for nothing.
    pub fetch: Option<AssetFetch>,
}

/// What a Remote Asset service fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetFetch {
    /// The hosts that may be fetched from; any where there are none.
    pub hosts: Vec<String>,
    /// The hosts whose addresses may be internal.
    pub internal_hosts: Vec<String>,
    /// The URL of the HTTP proxy through which all is fetched; `None` for the direct way.
    pub proxy: Option<String>,
    /// The largest asset, in bytes.
    pub max_size: u64,
}
