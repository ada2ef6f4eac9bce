//! The scheduler.

use std::path::PathBuf;
use std::time::Duration;

use super::{ActionCache, RedisConnection, Remote, Shared, SqlConnection, Storage};

/// Where the queue is.
#[derive(Clone, Debug, PartialEq)]
pub enum Database {
    /// The database that is named.
    Sql(Shared<SqlConnection>),
    /// An SQLite file of the state directory.
    State,
    /// A temporary SQLite database, which goes with the process.
    Temporary,
}

/// `!sql-scheduler` and its older names.
#[derive(Debug, PartialEq)]
pub struct Scheduler {
    /// Where the actions are and the results go.
    pub storage: Shared<Storage>,
    /// Where the queue is.
    pub database: Database,
    /// A read-only copy for listings.
    pub database_ro: Option<Shared<SqlConnection>>,
    /// The connection for notifications, where it is another.
    pub notifier: Option<Shared<SqlConnection>>,
    /// Where results are looked up and kept.
    pub action_cache: Option<Shared<ActionCache>>,
    /// How jobs and workers are matched.
    pub property_set: PropertySet,
    /// How leases are shared out.
    pub assignment: Assignment,
    /// When finished jobs are deleted; `None` for never.
    pub pruner: Option<Pruner>,
    /// How long the history keeps leases that ended.
    pub history_retention: Duration,
    /// How long it is kept who executed which result; zero for not at all.
    pub provenance_retention: Duration,
    /// The ages at which queued jobs are given up; without any they wait for ever.
    pub queue_timeouts: Vec<QueueTimeout>,
    /// The base URL of a browser for actions.
    pub browser_url: Option<String>,
    /// Other base URLs for some instances.
    pub instanced_browser_urls: Vec<InstancedUrl>,
    /// The longest that an action may run.
    pub max_execution_timeout: Duration,
    /// How long a bot may stay silent.
    pub bot_session_keepalive: Duration,
    /// How often a job is tried.
    pub max_job_attempts: u32,
    /// How many jobs of one property label may be queued.
    pub max_queue_size: Option<u64>,
    /// Other limits for some instances.
    pub instanced_queue_sizes: Vec<InstancedLimit>,
    /// How often silent bots, overdue and old jobs are looked for.
    pub session_timer: Duration,
    /// Instances that share their bots and queue.
    pub instance_pools: Vec<Vec<String>>,
    /// Whether invocations take turns within a priority.
    pub fair: bool,
    /// How long a job waits that no declared pool can run; zero for ever.
    pub unplaceable_grace: Duration,
    /// How many locality hints of a bot are remembered.
    pub locality_hints: usize,
    /// Where it is counted who uses how much.
    pub metering: Option<Shared<Metering>>,
    /// Whether actions of those who used more than they may are refused; else they lose their priority.
    pub rejects_throttled: bool,
    /// The server that log streams are made at; `None` for this one.
    pub logstream: Option<Remote>,
}

/// `!metering`.
#[derive(Debug, PartialEq)]
pub struct Metering {
    /// Where it counts.
    pub redis: Shared<RedisConnection>,
    /// A file with thresholds.
    pub thresholds: Option<PathBuf>,
    /// How long use counts.
    pub window: Duration,
    /// How long an operation counts once.
    pub deduplication: Duration,
}

/// How leases are shared out, beside priority and age.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Of a hundred leases, how many go to the oldest jobs whatever their priority.
    pub aged_percent: u32,
    /// Groups of bots in which instances have quotas.
    pub cohorts: Vec<Cohort>,
    /// The cohorts in which leases are taken from instances for others that have fewer than they are due.
    pub preempting: Vec<String>,
    /// How long a job waits before a lease is taken for it.
    pub preemption_delay: Duration,
    /// How long an instance does without what was taken from it.
    pub eviction_cooldown: Duration,
}

/// A group of bots.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    /// Its name.
    pub name: String,
    /// Property labels; a bot is in the group if all of its own are among them.
    pub labels: Vec<String>,
}

/// When finished jobs are deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruner {
    /// The age at which they are.
    pub max_age: Duration,
    /// How many at a time.
    pub window: u64,
}

/// When queued jobs are given up.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueTimeout {
    /// What messages call it; empty for nothing.
    pub name: String,
    /// The age.
    pub max_age: Duration,
    /// The instances; all where none is named.
    pub instances: Vec<String>,
}

/// A browser URL for some instances.
#[derive(Clone, Debug, PartialEq)]
pub struct InstancedUrl {
    /// The base URL.
    pub url: String,
    /// The instances.
    pub instances: Vec<String>,
}

/// A queue limit for some instances.
#[derive(Clone, Debug, PartialEq)]
pub struct InstancedLimit {
    /// The limit.
    pub max_size: u64,
    /// The instances.
    pub instances: Vec<String>,
}

/// How jobs and workers are matched.
#[derive(Clone, Debug, PartialEq)]
pub enum PropertySet {
    /// `!dynamic-property-set`
    Dynamic(DynamicSet),
    /// `!static-property-set`
    Static(StaticSet),
    /// `!instanced-property-set`: each instance's own, in the order of the document.
    Instanced(Vec<(Vec<String>, Self)>),
}

/// Any values of known keys.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicSet {
    /// Keys that a job may give only once.
    pub unique: Vec<String>,
    /// Keys that a bot must match.
    pub matched: Vec<String>,
    /// Keys that a job may give and no bot needs to match.
    pub wildcard: Vec<String>,
    /// Keys that are matched where a bot is free that does.
    pub preferred: Vec<String>,
    /// The key whose value labels jobs.
    pub label_key: String,
}

/// What a list of labels allows.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticSet {
    /// The labels in order.
    pub labels: Vec<PropertyLabel>,
    /// Keys that a job may give and no bot needs to match.
    pub wildcard: Vec<String>,
    /// A bot that has such a key only takes jobs that ask for it.
    pub exclusive: Vec<String>,
    /// Keys that are matched where a bot is free that does.
    pub preferred: Vec<String>,
}

/// A label of a static set.
#[derive(Clone, Debug, PartialEq)]
pub struct PropertyLabel {
    /// The label.
    pub label: String,
    /// Its properties.
    pub properties: Vec<(String, String)>,
}
