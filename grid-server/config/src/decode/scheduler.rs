//! Schedulers and property sets.

use std::collections::BTreeSet;

use super::decoder::{Decode, Decoder, Memo, Tagged};
use super::{Fields, inline, record};
use crate::model::{
    Assignment, Database, DynamicSet, InstancedLimit, InstancedUrl, Metering, PropertyLabel, PropertySet,
    Pruner, QueueTimeout, Remote, Scheduler, Shared, StaticSet,
};
use crate::table::{BROWSER_URL, INSTANCE_SET, Kind, PROPERTY_LABEL, QUEUE_SIZE, Ty};
use crate::yaml::Child;

impl Tagged for Scheduler {
    const KIND: Kind = Kind::Scheduler;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.schedulers
    }

    fn read(tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        let database = database(tag, f);
        let property_set = property_set(f);
        let assignment = super::assigners::assignment(f, property_set.as_ref());
        let pruner = pruner(f);
        let queue_timeouts = queue_timeouts(f);
        let browser_urls = f.opt("instanced-browser-urls");
        let queue_sizes = f.opt("instanced-queue-size");
        let pools = pools(f);
        let scheduler = SchedulerRest::read(f)?;
        if scheduler.metering.is_none() {
            f.no_effect("metering-throttle-action", "without `metering` nobody is throttled");
        }
        let instanced_browser_urls: Vec<InstancedUrl> = browser_urls?.unwrap_or_default();
        let instanced_queue_sizes: Vec<InstancedLimit> = queue_sizes?.unwrap_or_default();
        once_each(f, "instanced-browser-urls", instanced_browser_urls.iter().map(|entry| &entry.instances))?;
        once_each(f, "instanced-queue-size", instanced_queue_sizes.iter().map(|entry| &entry.instances))?;
        Some(scheduler.with(SchedulerParts {
            database: database?,
            property_set: property_set?,
            assignment: assignment?,
            pruner: pruner?,
            queue_timeouts: queue_timeouts?,
            instanced_browser_urls,
            instanced_queue_sizes,
            instance_pools: pools?,
        }))
    }
}

/// What takes more than reading a key.
struct SchedulerParts {
    database: Database,
    property_set: PropertySet,
    assignment: Assignment,
    pruner: Option<Pruner>,
    queue_timeouts: Vec<QueueTimeout>,
    instanced_browser_urls: Vec<InstancedUrl>,
    instanced_queue_sizes: Vec<InstancedLimit>,
    instance_pools: Vec<Vec<String>>,
}

/// What is one key each.
struct SchedulerRest {
    storage: Shared<crate::model::Storage>,
    database_ro: Option<Shared<crate::model::SqlConnection>>,
    notifier: Option<Shared<crate::model::SqlConnection>>,
    action_cache: Option<Shared<crate::model::ActionCache>>,
    browser_url: Option<String>,
    max_execution_timeout: std::time::Duration,
    bot_session_keepalive: std::time::Duration,
    max_job_attempts: u32,
    max_queue_size: Option<u64>,
    session_timer: std::time::Duration,
    fairness: String,
    unplaceable_grace: std::time::Duration,
    locality_hints: usize,
    history_retention: std::time::Duration,
    provenance_retention: std::time::Duration,
    metering: Option<Shared<Metering>>,
    logstream: Option<Remote>,
    throttle_action: String,
}

impl SchedulerRest {
    fn read(f: &mut Fields<'_, '_>) -> Option<Self> {
        record!(f => SchedulerRest {
            storage: req("storage"),
            database_ro: opt("sql-ro"),
            notifier: opt("sql-notifier"),
            action_cache: opt("action-cache"),
            browser_url: opt("action-browser-url"),
            max_execution_timeout: or("max-execution-timeout"),
            bot_session_keepalive: or("bot-session-keepalive-timeout"),
            max_job_attempts: or("max-job-attempts"),
            max_queue_size: opt("max-queue-size"),
            session_timer: or("session-expiry-timer-interval"),
            fairness: or("fairness"),
            unplaceable_grace: or("refuse-unplaceable-after"),
            locality_hints: or("bot-locality-hint-limit"),
            history_retention: or("history-retention"),
            provenance_retention: or("provenance-retention"),
            metering: opt("metering"),
            logstream: opt("logstream"),
            throttle_action: or("metering-throttle-action"),
        })
    }

    fn with(self, parts: SchedulerParts) -> Scheduler {
        Scheduler {
            storage: self.storage,
            database: parts.database,
            database_ro: self.database_ro,
            notifier: self.notifier,
            action_cache: self.action_cache,
            property_set: parts.property_set,
            assignment: parts.assignment,
            pruner: parts.pruner,
            queue_timeouts: parts.queue_timeouts,
            browser_url: self.browser_url,
            instanced_browser_urls: parts.instanced_browser_urls,
            max_execution_timeout: self.max_execution_timeout,
            bot_session_keepalive: self.bot_session_keepalive,
            max_job_attempts: self.max_job_attempts,
            max_queue_size: self.max_queue_size,
            instanced_queue_sizes: parts.instanced_queue_sizes,
            session_timer: self.session_timer,
            instance_pools: parts.instance_pools,
            fair: self.fairness == "turns",
            unplaceable_grace: self.unplaceable_grace,
            locality_hints: self.locality_hints,
            history_retention: self.history_retention,
            provenance_retention: self.provenance_retention,
            rejects_throttled: self.throttle_action == "reject",
            metering: self.metering,
            logstream: self.logstream,
        }
    }
}

impl Tagged for Metering {
    const KIND: Kind = Kind::Metering;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.metering
    }

    fn read(_tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        let (window, once) =
            (f.or("throttling-data-expiration-sec"), f.or("operation-deduplication-period-sec"));
        let (redis, thresholds) = (f.req("redis"), f.opt("throttling-config-path"));
        Some(Self {
            redis: redis?,
            thresholds: thresholds?,
            window: std::time::Duration::from_secs(window?),
            deduplication: std::time::Duration::from_secs(once?),
        })
    }
}

fn database(tag: &str, f: &mut Fields<'_, '_>) -> Option<Database> {
    let named = inline::sql(f)?;
    Some(match (named, tag) {
        (Some(connection), _) => Database::Sql(connection),
        (None, "memory-scheduler" | "memory-data-store") => Database::Temporary,
        (None, _) => Database::State,
    })
}

fn pruner(f: &mut Fields<'_, '_>) -> Option<Option<Pruner>> {
    let max_age = f.opt("pruner-job-max-age");
    let window = f.or("pruner-max-delete-window");
    let Some(max_age) = max_age? else {
        f.no_effect("pruner-max-delete-window", "without `pruner-job-max-age` no job is deleted");
        return Some(None);
    };
    Some(Some(Pruner { max_age, window: window? }))
}

/// One age for all instances, or ages for some.
fn queue_timeouts(f: &mut Fields<'_, '_>) -> Option<Vec<QueueTimeout>> {
    let (all, some) =
        (f.opt("queue-timeout-job-max-age"), f.opt::<Vec<QueueTimeout>>("queue-timeout-configs"));
    match (all?, some?) {
        (Some(_), Some(_)) => {
            let message =
                "`queue-timeout-job-max-age` and `queue-timeout-configs` say the same thing; keep the second";
            f.error_at("queue-timeout-job-max-age", message.to_owned());
            None
        }
        (Some(max_age), None) => {
            Some(vec![QueueTimeout { name: String::new(), max_age, instances: Vec::new() }])
        }
        (None, some) => Some(some.unwrap_or_default()),
    }
}

fn pools(f: &mut Fields<'_, '_>) -> Option<Vec<Vec<String>>> {
    let pools: Vec<Vec<String>> = f.opt("instance-pools")?.unwrap_or_default();
    once_each(f, "instance-pools", pools.iter())?;
    Some(pools)
}

/// Says so where an instance is in more than one of the lists.
fn once_each<'l>(
    f: &mut Fields<'_, '_>,
    key: &str,
    lists: impl Iterator<Item = &'l Vec<String>>,
) -> Option<()> {
    let mut seen = BTreeSet::new();
    for name in lists.flatten() {
        if !seen.insert(name) {
            f.error_at(key, format!("the instance `{name}` is in two elements; it may be in one only"));
            return None;
        }
    }
    Some(())
}

fn property_set(f: &mut Fields<'_, '_>) -> Option<PropertySet> {
    let named = f.opt("property-set");
    let matched = f.opt::<Vec<String>>("property-keys");
    let wildcard = f.opt::<Vec<String>>("wildcard-property-keys");
    let (named, matched, wildcard) = (named?, matched?, wildcard?);
    if named.is_some() && (matched.is_some() || wildcard.is_some()) {
        let message = "`property-set` and `property-keys` or `wildcard-property-keys` say the same thing; keep the first";
        f.error_at("property-set", message.to_owned());
        return None;
    }
    Some(named.unwrap_or_else(|| {
        PropertySet::Dynamic(DynamicSet {
            unique: Vec::new(),
            matched: matched.unwrap_or_default(),
            wildcard: wildcard.unwrap_or_default(),
            preferred: Vec::new(),
            label_key: "OSFamily".to_owned(),
        })
    }))
}

impl Decode for PropertySet {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let section = super::objects::section(child, &[Kind::PropertySet], decoder)?;
        let mut fields = Fields::new(child, section, decoder)?;
        let f = &mut fields;
        match section.name {
            "!static-property-set" => record!(f => StaticSet {
                labels: req("property-labels"),
                wildcard: or("wildcard-property-keys"),
                exclusive: or("exclusive-property-keys"),
                preferred: or("preferred-property-keys"),
            })
            .map(Self::Static),
            "!instanced-property-set" => instanced(f),
            _ => record!(f => DynamicSet {
                unique: or("unique-property-keys"),
                matched: or("match-property-keys"),
                wildcard: or("wildcard-property-keys"),
                preferred: or("preferred-property-keys"),
                label_key: or("label-key"),
            })
            .map(Self::Dynamic),
        }
    }
}

fn instanced(f: &mut Fields<'_, '_>) -> Option<PropertySet> {
    let sets: Vec<InstanceSet> = f.req("sets")?;
    once_each(f, "sets", sets.iter().map(|entry| &entry.instances))?;
    Some(PropertySet::Instanced(sets.into_iter().map(|entry| (entry.instances, entry.set)).collect()))
}

struct InstanceSet {
    instances: Vec<String>,
    set: PropertySet,
}

impl Decode for InstanceSet {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &INSTANCE_SET, decoder)?;
        let f = &mut fields;
        record!(f => InstanceSet { instances: req("instances"), set: req("set") })
    }
}

impl Decode for QueueTimeout {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let section = super::objects::section(child, &[Kind::QueueTimeout], decoder)?;
        let mut fields = Fields::new(child, section, decoder)?;
        let f = &mut fields;
        record!(f => QueueTimeout { name: or("name"), max_age: req("job-max-age"), instances: or("instance-names") })
    }
}

impl Decode for PropertyLabel {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &PROPERTY_LABEL, decoder)?;
        let f = &mut fields;
        let label = f.req("label");
        let pairs: Vec<Vec<String>> = f.req("properties")?;
        let mut properties = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let Ok([key, value]) = <[String; 2]>::try_from(pair) else {
                f.error_at("properties", "expected a list of [key, value] pairs".to_owned());
                return None;
            };
            properties.push((key, value));
        }
        Some(Self { label: label?, properties })
    }
}

impl Decode for InstancedUrl {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &BROWSER_URL, decoder)?;
        let f = &mut fields;
        record!(f => InstancedUrl { url: req("url"), instances: req("instance-names") })
    }
}

impl Decode for InstancedLimit {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &QUEUE_SIZE, decoder)?;
        let f = &mut fields;
        record!(f => InstancedLimit { max_size: req("max-size"), instances: req("instance-names") })
    }
}
