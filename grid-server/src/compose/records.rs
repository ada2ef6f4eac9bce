//! Who executed which result: kept beside a scheduler's queue, and read back by `purge`.

use std::collections::HashMap;
use std::sync::Arc;

use grid_cache::SharedCache;
use grid_config::model::{self, ActionCache, Database as Where, Service, Shared};
use grid_core::{InstanceName, SystemClock};
use grid_rpc::execution::Records;
use grid_scheduler_sql::Database;
use grid_streams::SqlProvenance;

use super::expiry::Expiring;
use super::{ComposeError, Composer, key};

/// What is kept of a scheduler's executions, and the caches that have their results.
pub(crate) struct Executions {
    /// Where the configuration has the scheduler.
    pub(crate) place: String,
    /// Who executed what.
    pub(crate) records: Records,
    /// The caches by their instances.
    pub(crate) caches: HashMap<InstanceName, SharedCache>,
    /// What only the serving process can forget.
    pub(crate) in_memory: Option<String>,
}

impl Composer<'_> {
    /// Has it kept in a scheduler's database who executes what, for as long as the scheduler says.
    pub(super) fn keep_records(&mut self, scheduler: &Shared<model::Scheduler>, database: &Database) {
        if scheduler.provenance_retention.is_zero() {
            return;
        }
        let provenance = Arc::new(SqlProvenance::new(database.clone()));
        self.expiry.add(Expiring::Provenance(Arc::clone(&provenance)), scheduler.provenance_retention);
        let records = Records { provenance, clock: Arc::new(SystemClock) };
        self.records.insert(key(scheduler, None), records);
    }

    /// Where it is kept who executes what for a scheduler.
    pub(super) fn records(&self, scheduler: &Shared<model::Scheduler>) -> Option<Records> {
        self.records.get(&key(scheduler, None)).cloned()
    }

    /// What is kept of all executions, scheduler by scheduler.
    pub(super) async fn executions(&mut self) -> Result<Vec<Executions>, ComposeError> {
        let mut all: Vec<(Shared<model::Scheduler>, Executions)> = Vec::new();
        for instance in &self.config.instances {
            for service in &instance.services {
                let scheduler = match &service.value {
                    Service::Execution(execution) => &execution.scheduler,
                    Service::Bots(bots) => &bots.scheduler,
                    _ => continue,
                };
                let Some(cache) = self.agree(scheduler)?.action_cache else { continue };
                let Some(place) = self.known(&mut all, scheduler, &cache).await? else { continue };
                for name in &instance.names {
                    let made = self.cache(&cache, name).await?;
                    all[place].1.caches.insert(name.clone(), made);
                }
            }
        }
        Ok(all.into_iter().map(|(_, executions)| executions).collect())
    }

    /// The place of a scheduler among those that are known; nothing where it keeps no records.
    async fn known(
        &mut self,
        all: &mut Vec<(Shared<model::Scheduler>, Executions)>,
        scheduler: &Shared<model::Scheduler>,
        cache: &Shared<ActionCache>,
    ) -> Result<Option<usize>, ComposeError> {
        if let Some(place) = all.iter().position(|(known, _)| Arc::ptr_eq(known, scheduler)) {
            return Ok(Some(place));
        }
        if scheduler.database != Where::Temporary {
            let database = self.database(&scheduler.database).await?;
            self.keep_records(scheduler, &database);
        }
        let Some(records) = self.records(scheduler) else { return Ok(None) };
        let executions = Executions {
            place: scheduler.place.to_string(),
            records,
            caches: HashMap::new(),
            in_memory: in_memory(cache),
        };
        all.push((Arc::clone(scheduler), executions));
        Ok(Some(all.len() - 1))
    }
}

/// The caches in the serving process's memory among those that make up a cache.
fn in_memory(cache: &Shared<ActionCache>) -> Option<String> {
    match &cache.value {
        ActionCache::Lru(_) => Some(format!(
            "{} is in the server's memory and keeps what it has: restart the server too",
            cache.place
        )),
        ActionCache::WithCache(both) => in_memory(&both.cache).or_else(|| in_memory(&both.fallback)),
        ActionCache::Mirrored(both) => in_memory(&both.first).or_else(|| in_memory(&both.second)),
        ActionCache::Sharded(sharded) => sharded.shards.iter().find_map(|shard| in_memory(&shard.cache)),
        ActionCache::WriteOnce(once) => in_memory(&once.action_cache),
        ActionCache::Sql(_) | ActionCache::Redis(_) | ActionCache::S3(_) | ActionCache::Remote(_) => None,
    }
}
