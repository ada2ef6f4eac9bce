//! [`SchedulerOptions`]: what a configuration says about a scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::observer::Observer;
use crate::engine::{ClaimRules, PreemptRules, QueueTimeout, SweepRules};
use crate::properties::PropertySet;
use crate::quota::{Cohort, cohort_of};
use crate::session::Session;
use crate::transition::RetryPolicy;

/// What a configuration says about a scheduler. [`Default`] is BuildGrid's, where BuildGrid has one.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// How platforms are read.
    pub property_set: PropertySet,
    /// Groups of instances that share bots and in-flight jobs. An instance in no group is a pool of its own.
    pub instance_pools: Vec<Vec<String>>,
    /// How long a job may run, and the most that an action may ask for (`max-execution-timeout`, 7,200 s).
    pub max_execution_timeout: Duration,
    /// How long a session lives without a call (`bot-session-keepalive-timeout`, 600 s).
    pub bot_session_keepalive_timeout: Duration,
    /// How often a job may fail (`max-job-attempts`, 5).
    pub retry: RetryPolicy,
    /// How long jobs may wait for a bot (`queue-timeout-job-max-age`, `queue-timeout-configs`); without any for ever.
    pub queue_timeouts: Vec<QueueTimeout>,
    /// Whether a job that nobody has watched for [`SchedulerOptions::watch_grace`] ends
    /// (`discard-unwatched-jobs`).
    pub discard_unwatched_jobs: bool,
    /// How long a job counts as watched after its watcher was last heard of: 60 s.
    pub watch_grace: Duration,
    /// How long completed jobs are kept; `None` for ever (`pruner-job-max-age`).
    pub pruner_job_max_age: Option<Duration>,
    /// How long the history keeps leases that ended (`history-retention`, 7 days).
    pub history_retention: Duration,
    /// How many completed jobs one round of the pruner removes (`pruner-max-delete-window`, 10,000).
    pub pruner_max_delete_window: u32,
    /// Whether invocations take turns within a priority. Off: priority, then age, as BuildGrid.
    pub fair: bool,
    /// Of a hundred leases, how many go to the oldest jobs whatever their priority (what `priority-assignment-percentage`
    /// leaves).
    pub aged_percent: u32,
    /// Groups of bots in which instances have quotas (`cohort-set`).
    pub cohorts: Vec<Cohort>,
    /// The cohorts in which leases are taken from instances for others that have fewer than they are due
    /// (`!cohort-assigner`).
    pub preempting: Vec<String>,
    /// How long a job waits before a lease is taken for it (`preemption-delay`, 20 s).
    pub preemption_delay: Duration,
    /// How long an instance does without what was taken from it (`eviction-cooldown-seconds`, 600 s).
    pub eviction_cooldown: Duration,
    /// Waiting jobs a platform label, at most (`max-queue-size`).
    pub max_queue_size: Option<u64>,
    /// Other limits for some instances (`instanced-queue-size`).
    pub instanced_queue_sizes: Vec<(Vec<String>, u64)>,
    /// How long a job waits that no declared pool can ever run; `None` for ever (`refuse-unplaceable-after`, 60 s).
    pub unplaceable_grace: Option<Duration>,
    /// How long a job with properties that are not known is held for the first declaration of pools; `None` where nobody
    /// declares any.
    pub awaits_pools: Option<Duration>,
    /// How many locality hints of a bot the replica that it calls remembers (`bot-locality-hint-limit`, 10).
    pub locality_hints: usize,
    /// How often what is overdue is looked for (`session-expiry-timer-interval`, 10 s).
    pub sweep_interval: Duration,
    /// How often the queue is looked at although no news came: what lost notifications cost at most.
    pub safety_poll: Duration,
    /// How long a call waits for a database that is away: 60 s.
    pub patience: Duration,
    /// Who counts what jobs go through.
    pub observer: Option<Arc<dyn Observer>>,
    /// How many calls one transaction serves.
    pub batch: usize,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            property_set: PropertySet::default(),
            instance_pools: Vec::new(),
            max_execution_timeout: Duration::from_hours(2),
            bot_session_keepalive_timeout: Duration::from_mins(10),
            retry: RetryPolicy::default(),
            queue_timeouts: Vec::new(),
            discard_unwatched_jobs: false,
            watch_grace: Duration::from_mins(1),
            pruner_job_max_age: None,
            history_retention: Duration::from_hours(7 * 24),
            pruner_max_delete_window: 10_000,
            fair: false,
            aged_percent: 0,
            cohorts: Vec::new(),
            preempting: Vec::new(),
            preemption_delay: Duration::from_secs(20),
            eviction_cooldown: Duration::from_mins(10),
            max_queue_size: None,
            instanced_queue_sizes: Vec::new(),
            unplaceable_grace: Some(Duration::from_mins(1)),
            awaits_pools: None,
            locality_hints: 10,
            sweep_interval: Duration::from_secs(10),
            safety_poll: Duration::from_secs(5),
            patience: Duration::from_mins(1),
            observer: None,
            batch: 500,
        }
    }
}

impl SchedulerOptions {
    /// The pool of each instance that shares one; the pool is named after its first instance.
    pub(super) fn pools(&self) -> BTreeMap<String, String> {
        let named = |pool: &Vec<String>| {
            let name = pool.first().cloned().unwrap_or_default();
            pool.iter().map(move |instance| (instance.clone(), name.clone())).collect::<Vec<_>>()
        };
        self.instance_pools.iter().flat_map(named).collect()
    }

    /// The cohort of a session's bot; empty for none.
    #[must_use]
    pub fn cohort(&self, session: &Session) -> &str {
        if self.cohorts.is_empty() {
            return "";
        }
        cohort_of(&self.cohorts, &self.property_set.bot_labels(&session.instance, &session.properties))
    }

    /// How many jobs of one label may wait in an instance.
    pub(super) fn queue_limit(&self, instance: &str) -> Option<u64> {
        let own =
            self.instanced_queue_sizes.iter().find(|(names, _)| names.iter().any(|name| name == instance));
        own.map(|(_, limit)| *limit).or(self.max_queue_size)
    }

    pub(super) const fn claim_rules(&self) -> ClaimRules {
        ClaimRules { fair: self.fair, cooldown: self.eviction_cooldown }
    }

    pub(super) fn preempt_rules(&self) -> PreemptRules {
        PreemptRules {
            cohorts: self
                .cohorts
                .iter()
                .filter(|cohort| self.preempting.contains(&cohort.name))
                .cloned()
                .collect(),
            delay: self.preemption_delay,
            cooldown: self.eviction_cooldown,
            retry: self.retry,
        }
    }

    pub(super) fn sweep_rules(&self) -> SweepRules {
        SweepRules {
            max_execution: self.max_execution_timeout,
            timeout_grace: Duration::from_secs(30),
            max_queued: self.queue_timeouts.clone(),
            discard_unwatched: self.discard_unwatched_jobs,
            keep_completed: self.pruner_job_max_age,
            keep_history: self.history_retention,
            prune_limit: self.pruner_max_delete_window,
            batch: u32::try_from(self.batch).unwrap_or(u32::MAX),
            retry: self.retry,
        }
    }
}
