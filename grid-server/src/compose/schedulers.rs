//! Schedulers: the queue, and how jobs and bots are matched.

use std::sync::Arc;
use std::time::Duration;

use grid_config::model::{
    self, ActionCache, DynamicSet, PropertySet, SchedulerOverrides, Service, Shared, Storage,
};
use grid_core::Coded as _;
use grid_scheduler::engine::QueueTimeout;
use grid_scheduler::ids::TimeOrderedIds;
use grid_scheduler::properties as matching;
use grid_scheduler::quota::Cohort;
use grid_scheduler::store::QueueStore;
use grid_scheduler::transition::RetryPolicy;
use grid_scheduler::{Scheduler, SchedulerOptions};
use grid_scheduler_sql::{Database, PostgresQueue, SqliteQueue};

use super::{ComposeError, Composer, key};
use crate::readiness::Dependency;

/// What a scheduler and the services that use it say together.
pub(super) struct Agreed {
    pub(super) storage: Shared<Storage>,
    pub(super) action_cache: Option<Shared<ActionCache>>,
    pub(super) browser_url: Option<String>,
    max_execution_timeout: Duration,
    bot_session_keepalive: Duration,
    property_set: PropertySet,
    discard_unwatched: bool,
    has_fleet: bool,
}

impl Composer<'_> {
    /// A scheduler, with what its services say about it.
    pub(super) async fn scheduler(
        &mut self,
        item: &Shared<model::Scheduler>,
    ) -> Result<(Arc<Scheduler>, Agreed), ComposeError> {
        let agreed = self.agree(item)?;
        let key = key(item, None);
        if let Some(scheduler) = self.schedulers.get(&key) {
            return Ok((Arc::clone(scheduler), agreed));
        }
        let database = self.database(&item.database).await?;
        self.keep_records(item, &database);
        let reader = self.same_kind(item, item.database_ro.as_ref(), &database, "sql-ro").await?;
        let notifier = self.same_kind(item, item.notifier.as_ref(), &database, "sql-notifier").await?;
        let store: Arc<dyn QueueStore> = match database {
            Database::Sqlite(pool) => Arc::new(SqliteQueue::new(pool)),
            Database::Postgres(pool) => {
                let queue = PostgresQueue::new(pool);
                let queue = reader.into_iter().fold(queue, PostgresQueue::with_reader);
                Arc::new(notifier.into_iter().fold(queue, PostgresQueue::with_notifier))
            }
        };
        let options = SchedulerOptions { observer: Some(self.jobs.clone()), ..options(item, &agreed) };
        let scheduler = Scheduler::start(options, store, Arc::new(TimeOrderedIds));
        self.dependencies.push(dependency(item.place.to_string(), &scheduler));
        self.schedulers.insert(key, Arc::clone(&scheduler));
        Ok((scheduler, agreed))
    }

    /// Another way to the scheduler's database; only PostgreSQL has such.
    async fn same_kind(
        &mut self,
        item: &Shared<model::Scheduler>,
        connection: Option<&Shared<model::SqlConnection>>,
        database: &Database,
        key: &str,
    ) -> Result<Option<sqlx::PgPool>, ComposeError> {
        let Some(connection) = connection else { return Ok(None) };
        match (self.sql(connection).await?, database) {
            (Database::Postgres(pool), Database::Postgres(_)) => Ok(Some(pool)),
            _ => Err(ComposeError::Contradiction {
                place: item.place.to_string(),
                what: format!(
                    "`{key}` is for a scheduler on PostgreSQL, and names another PostgreSQL connection"
                ),
            }),
        }
    }

    /// Puts together what the scheduler and all its services say; two services that say different things are refused.
    pub(super) fn agree(&self, item: &Shared<model::Scheduler>) -> Result<Agreed, ComposeError> {
        let place = item.place.to_string();
        let mut agreed = Agreed {
            storage: Arc::clone(&item.storage),
            action_cache: item.action_cache.clone(),
            browser_url: item.browser_url.clone(),
            max_execution_timeout: item.max_execution_timeout,
            bot_session_keepalive: item.bot_session_keepalive,
            property_set: item.property_set.clone(),
            discard_unwatched: false,
            has_fleet: false,
        };
        let mut said = Said::default();
        for service in self.config.instances.iter().flat_map(|instance| &instance.services) {
            let (scheduler, overrides) = match &service.value {
                Service::Execution(execution) => (&execution.scheduler, &execution.overrides),
                Service::Bots(bots) => (&bots.scheduler, &bots.overrides),
                Service::Fleet(fleet) => {
                    agreed.has_fleet |= Arc::ptr_eq(&fleet.scheduler, item);
                    continue;
                }
                Service::ActionCache(_)
                | Service::Cas(_)
                | Service::ByteStream(_)
                | Service::Operations(_)
                | Service::Introspection(_)
                | Service::LogStream(_)
                | Service::BuildEvents(_)
                | Service::RemoteAsset(_) => continue,
            };
            if !Arc::ptr_eq(scheduler, item) {
                continue;
            }
            said.hear(overrides).map_err(|key| ComposeError::Contradiction {
                place: place.clone(),
                what: format!(
                    "its services say different things about `{key}`; say it once, on the scheduler"
                ),
            })?;
            if let Service::Execution(execution) = &service.value {
                agreed.discard_unwatched |= execution.discard_unwatched;
            }
        }
        said.apply(&mut agreed);
        Ok(agreed)
    }
}

/// What the services of a scheduler said about it.
#[derive(Default)]
struct Said {
    storage: Option<Shared<Storage>>,
    action_cache: Option<Shared<ActionCache>>,
    browser_url: Option<String>,
    max_execution_timeout: Option<Duration>,
    bot_session_keepalive: Option<Duration>,
    matched: Option<Vec<String>>,
    wildcard: Option<Vec<String>>,
}

impl Said {
    fn hear(&mut self, overrides: &SchedulerOverrides) -> Result<(), &'static str> {
        hear_object(&mut self.storage, overrides.storage.as_ref(), "storage")?;
        hear_object(&mut self.action_cache, overrides.action_cache.as_ref(), "action-cache")?;
        hear(&mut self.browser_url, overrides.browser_url.as_ref(), "action-browser-url")?;
        hear(
            &mut self.max_execution_timeout,
            overrides.max_execution_timeout.as_ref(),
            "max-execution-timeout",
        )?;
        let keepalive = overrides.bot_session_keepalive.as_ref();
        hear(&mut self.bot_session_keepalive, keepalive, "bot-session-keepalive-timeout")?;
        hear(&mut self.matched, overrides.property_keys.as_ref(), "property-keys")?;
        hear(&mut self.wildcard, overrides.wildcard_property_keys.as_ref(), "wildcard-property-keys")
    }

    fn apply(self, agreed: &mut Agreed) {
        agreed.storage = self.storage.unwrap_or_else(|| Arc::clone(&agreed.storage));
        agreed.action_cache = self.action_cache.or_else(|| agreed.action_cache.take());
        agreed.browser_url = self.browser_url.or_else(|| agreed.browser_url.take());
        agreed.max_execution_timeout = self.max_execution_timeout.unwrap_or(agreed.max_execution_timeout);
        agreed.bot_session_keepalive = self.bot_session_keepalive.unwrap_or(agreed.bot_session_keepalive);
        if let PropertySet::Dynamic(set) = &mut agreed.property_set {
            set.matched.extend(self.matched.unwrap_or_default());
            set.wildcard.extend(self.wildcard.unwrap_or_default());
        }
    }
}

fn hear<T: Clone + PartialEq>(
    so_far: &mut Option<T>,
    said: Option<&T>,
    key: &'static str,
) -> Result<(), &'static str> {
    match (&*so_far, said) {
        (Some(before), Some(now)) if before != now => Err(key),
        (None, Some(now)) => {
            *so_far = Some(now.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// As [`hear`], of objects: alike is not the same.
fn hear_object<T>(
    so_far: &mut Option<Shared<T>>,
    said: Option<&Shared<T>>,
    key: &'static str,
) -> Result<(), &'static str> {
    match (&*so_far, said) {
        (Some(before), Some(now)) if !Arc::ptr_eq(before, now) => Err(key),
        (None, Some(now)) => {
            *so_far = Some(Arc::clone(now));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn options(scheduler: &model::Scheduler, agreed: &Agreed) -> SchedulerOptions {
    SchedulerOptions {
        property_set: property_set(&agreed.property_set),
        instance_pools: scheduler.instance_pools.clone(),
        max_execution_timeout: agreed.max_execution_timeout,
        bot_session_keepalive_timeout: agreed.bot_session_keepalive,
        retry: RetryPolicy { max_attempts: scheduler.max_job_attempts, ..RetryPolicy::default() },
        queue_timeouts: scheduler.queue_timeouts.iter().map(queue_timeout).collect(),
        discard_unwatched_jobs: agreed.discard_unwatched,
        history_retention: scheduler.history_retention,
        pruner_job_max_age: scheduler.pruner.as_ref().map(|pruner| pruner.max_age),
        pruner_max_delete_window: scheduler
            .pruner
            .as_ref()
            .and_then(|pruner| u32::try_from(pruner.window).ok())
            .unwrap_or(SchedulerOptions::default().pruner_max_delete_window),
        max_queue_size: scheduler.max_queue_size,
        instanced_queue_sizes: scheduler
            .instanced_queue_sizes
            .iter()
            .map(|limit| (limit.instances.clone(), limit.max_size))
            .collect(),
        fair: scheduler.fair,
        aged_percent: scheduler.assignment.aged_percent,
        cohorts: scheduler.assignment.cohorts.iter().map(cohort).collect(),
        preempting: scheduler.assignment.preempting.clone(),
        preemption_delay: scheduler.assignment.preemption_delay,
        eviction_cooldown: scheduler.assignment.eviction_cooldown,
        unplaceable_grace: Some(scheduler.unplaceable_grace).filter(|grace| !grace.is_zero()),
        awaits_pools: agreed.has_fleet.then(|| awaits_pools(scheduler.unplaceable_grace)),
        locality_hints: scheduler.locality_hints,
        sweep_interval: scheduler.session_timer.max(Duration::from_millis(100)),
        ..SchedulerOptions::default()
    }
}

/// A job is held for the declaration of pools as long as for a pool that fits; where that is for ever, a misspelt property
/// is told of after a minute all the same.
fn awaits_pools(grace: Duration) -> Duration {
    if grace.is_zero() { Duration::from_mins(1) } else { grace }
}

fn queue_timeout(timeout: &model::QueueTimeout) -> QueueTimeout {
    let model::QueueTimeout { name, max_age, instances } = timeout.clone();
    QueueTimeout { name, max_age, instances }
}

fn cohort(cohort: &model::Cohort) -> Cohort {
    Cohort { name: cohort.name.clone(), labels: cohort.labels.iter().cloned().collect() }
}

fn property_set(set: &PropertySet) -> matching::PropertySet {
    let keys = |keys: &[String]| keys.iter().cloned().collect();
    match set {
        PropertySet::Dynamic(DynamicSet { unique, matched, wildcard, preferred, label_key }) => {
            matching::PropertySet::Dynamic(matching::DynamicSet {
                unique: keys(unique),
                matched: keys(matched),
                wildcard: keys(wildcard),
                preferred: keys(preferred),
                label_key: label_key.clone(),
            })
        }
        PropertySet::Static(set) => matching::PropertySet::Static(matching::StaticSet {
            labels: set
                .labels
                .iter()
                .map(|label| matching::StaticLabel {
                    label: label.label.clone(),
                    properties: properties(&label.properties),
                })
                .collect(),
            wildcard: keys(&set.wildcard),
            exclusive: keys(&set.exclusive),
            preferred: keys(&set.preferred),
        }),
        PropertySet::Instanced(sets) => matching::PropertySet::Instanced(matching::InstancedSet {
            sets: sets.iter().map(|(instances, set)| (instances.clone(), property_set(set))).collect(),
        }),
    }
}

fn properties(pairs: &[(String, String)]) -> matching::Properties {
    let mut properties = matching::Properties::new();
    for (key, value) in pairs {
        properties.entry(key.clone()).or_default().insert(value.clone());
    }
    properties
}

fn dependency(name: String, scheduler: &Arc<Scheduler>) -> Dependency {
    let scheduler = Arc::clone(scheduler);
    let probe = move || -> crate::readiness::Answer {
        let scheduler = Arc::clone(&scheduler);
        Box::pin(async move { scheduler.probe().await.map_err(|error| error.client_message()) })
    };
    Dependency { name, probe: Box::new(probe) }
}
