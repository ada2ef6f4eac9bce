//! The table of every tag and key that a configuration may have, with what becomes of each.
//!
//! It is the one place that knows the names: the decoder takes what is known, unknown, warned about and refused from
//! here, and `docs/configuration.md` is written from it. A test holds it against the decoder, key by key.

mod assigners;
mod caches;
mod channel_options;
mod connections;
mod markdown;
mod misc;
mod schedulers;
mod server;
mod services;
mod storages;

pub use channel_options::{ChannelOption, Effect, SIDE_NOTE, channel_option, channel_options};
pub use markdown::markdown;

/// What an object with a tag is, and so where it may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An address that the server listens on.
    Channel,
    /// A connection to a database server.
    SqlConnection,
    /// A connection to a Redis server.
    RedisConnection,
    /// A store of blobs.
    Storage,
    /// A store of action results.
    ActionCache,
    /// A queue of jobs.
    Scheduler,
    /// A gRPC service of an instance.
    Service,
    /// A gRPC service outside the instances.
    ServerService,
    /// A rule for matching jobs and workers.
    PropertySet,
    /// A named group of workers by property labels.
    CohortSet,
    /// How queued jobs find workers.
    Assigner,
    /// How an assigner chooses among workers.
    Strategy,
    /// How a strategy samples workers.
    Sampling,
    /// How sampled workers are weighed.
    Weights,
    /// When a queued job is given up.
    QueueTimeout,
    /// Accounting of use by client identity.
    Metering,
    /// A Remote Asset service to keep blobs alive at.
    AssetClient,
    /// An error collector.
    Sentry,
}

impl Kind {
    /// The kind in words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Channel => "a channel",
            Self::SqlConnection => "an SQL connection",
            Self::RedisConnection => "a Redis connection",
            Self::Storage => "a storage",
            Self::ActionCache => "an action cache",
            Self::Scheduler => "a scheduler",
            Self::Service => "a service",
            Self::ServerService => "a service outside the instances",
            Self::PropertySet => "a property set",
            Self::CohortSet => "a cohort set",
            Self::Assigner => "an assigner",
            Self::Strategy => "a bot assignment strategy",
            Self::Sampling => "a sampling configuration",
            Self::Weights => "sampling weights",
            Self::QueueTimeout => "a queue timeout",
            Self::Metering => "metering",
            Self::AssetClient => "an asset client",
            Self::Sentry => "an error collector",
        }
    }
}

/// What becomes of a tag or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what BuildGrid's does, or is our own.
    Done,
    /// It is an older or other spelling: the text says of what.
    Mapped(&'static str),
    /// It is accepted, has no effect, and `check` says so: the text says why.
    Warned(&'static str),
    /// A configuration with it is refused: the text says why, and what to do.
    Refused(&'static str),
}

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Ty {
    /// Text.
    Text,
    /// Text that no message and no log shows.
    Secret,
    /// A path of the file system.
    Path,
    /// `yes` or `no`.
    Flag,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// A number within these bounds.
    Number(f64, f64),
    /// A number of seconds, from this many on.
    Seconds(f64),
    /// A size in bytes, with a binary suffix: `512M`, `2G`.
    Size,
    /// A duration as a mapping of `weeks`, `days`, `hours`, `minutes`, `seconds`.
    Period,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One text or a list of them.
    Names,
    /// A mapping of text to text.
    TextMap,
    /// gRPC channel options; the side says in which spelling.
    ChannelOptions(Side),
    /// A list.
    List(&'static Ty),
    /// An object with a tag of this kind.
    Object(Kind),
    /// An object with a tag of one of these kinds.
    AnyOf(&'static [Kind]),
    /// A mapping without a tag.
    Record(&'static Section),
}

/// Which side of a connection a set of gRPC channel options is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Options of an outgoing connection: `keepalive-time-ms`.
    Client,
    /// Options of the server: `grpc.keepalive_time_ms`.
    Server,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be there.
    Required,
    /// It may be left out, and then is not set.
    Optional,
    /// It may be left out, and then is this, as YAML.
    Default(&'static str),
}

/// One key of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name as it is written.
    pub name: &'static str,
    /// The type of its value.
    pub ty: Ty,
    /// Whether it must be there.
    pub need: Need,
    /// What becomes of it.
    pub status: Status,
    /// For another spelling, the key it stands for.
    pub target: Option<&'static str>,
    /// What it does; one sentence.
    pub doc: &'static str,
}

/// A key that does something.
pub(crate) const fn key(name: &'static str, ty: Ty, doc: &'static str) -> Key {
    Key { name, ty, need: Need::Optional, status: Status::Done, target: None, doc }
}

/// The key must be there.
pub(crate) const fn required(name: &'static str, ty: Ty, doc: &'static str) -> Key {
    Key { need: Need::Required, ..key(name, ty, doc) }
}

/// The key has a default, written as YAML.
pub(crate) const fn default(name: &'static str, ty: Ty, value: &'static str, doc: &'static str) -> Key {
    Key { need: Need::Default(value), ..key(name, ty, doc) }
}

/// Another spelling of `target`.
pub(crate) const fn spelling(name: &'static str, ty: Ty, target: &'static str, doc: &'static str) -> Key {
    Key { status: Status::Mapped(doc), target: Some(target), ..key(name, ty, doc) }
}

/// An older form whose meaning is kept.
pub(crate) const fn mapped(name: &'static str, ty: Ty, doc: &'static str) -> Key {
    Key { status: Status::Mapped(doc), ..key(name, ty, doc) }
}

/// A key without effect.
pub(crate) const fn warned(name: &'static str, ty: Ty, why: &'static str) -> Key {
    Key { status: Status::Warned(why), ..key(name, ty, why) }
}

/// A key that we don't take.
pub(crate) const fn refused(name: &'static str, ty: Ty, why: &'static str) -> Key {
    Key { status: Status::Refused(why), ..key(name, ty, why) }
}

/// The keys of one kind of mapping.
#[derive(Debug)]
pub struct Section {
    /// The tag with its `!`, or the name of an untagged mapping.
    pub name: &'static str,
    /// What an object with the tag is; `None` for an untagged mapping.
    pub kind: Option<Kind>,
    /// What becomes of it.
    pub status: Status,
    /// What it is; one or two sentences.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

impl Section {
    /// The key of this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Keys of which BuildGrid takes -1 for a value that isn't given.
pub(crate) const UNGIVEN: [&str; 2] = ["inclause-limit", "pool-recycle"];

/// Why the scheduler's client of an asset service is refused.
pub(crate) const NO_ASSETS_PUSHED: &str = "nothing is pushed to an asset service to be kept there: an index keeps what clients were told of for its `promised-lifetime`, which may be as long as these hours; remove it";

/// Every section, in the order of the documentation.
pub fn sections() -> impl Iterator<Item = &'static Section> {
    [
        server::SECTIONS,
        connections::SECTIONS,
        storages::SECTIONS,
        caches::SECTIONS,
        schedulers::SECTIONS,
        assigners::SECTIONS,
        services::SECTIONS,
        misc::SECTIONS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The section of a tag, given without its `!`.
#[must_use]
pub fn tagged(tag: &str) -> Option<&'static Section> {
    sections().find(|section| section.kind.is_some() && section.name.strip_prefix('!') == Some(tag))
}

/// The tags of these kinds, with their `!`.
pub fn tags_of(kinds: &[Kind]) -> impl Iterator<Item = &'static str> {
    sections()
        .filter(move |section| section.kind.is_some_and(|kind| kinds.contains(&kind)))
        .map(|section| section.name)
}

pub(crate) use assigners::COHORT;
pub(crate) use caches::CACHE_SHARD;
pub(crate) use connections::LOG_STREAM;
pub(crate) use misc::{
    ADMIN, AUTHORIZATION, CLEANUP, CREDENTIALS, GRPC_WEB, HEALTH_OF, MONITORING, PERIOD, RATES, TRACING,
};
pub(crate) use schedulers::{BROWSER_URL, INSTANCE_SET, PROPERTY_LABEL, QUEUE_SIZE};
pub(crate) use server::{GRID_CREDENTIALS, INSTANCE, POD, SERVER_CREDENTIALS, TOP};
pub(crate) use storages::{SHARD, SIZE_LIMITED};
