//! [`Metering`]: who used how much of late, in Redis, and what becomes of those who used more than they may (BuildGrid's
//! `!metering`).
//!
//! Counted are the calls of Execute, and what each action used as far as its worker measured it, once its client hears of its
//! end. Whoever is above a threshold has their more urgent actions put among the ordinary ones, or refused. Keys and values
//! are BuildGrid's, so that both count together. A Redis that is away throttles nobody and holds up nobody.

mod usage;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use grid_cas::StoreError;
use grid_cas::redis_client::RedisConnection;
use grid_core::{DigestFunction, ServedCall, Step, Stopwatch};
use grid_proto::any::unpack;
use grid_proto::buildbox::execution_statistics::ProcessResourceUsage;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operation::Result as Outcome;
use grid_proto::reapi::ExecuteResponse;
use grid_scheduler::operation::ClientIdentity;
use redis::{Script, pipe};
use serde::Serialize;
use tokio::time::timeout;

pub use self::usage::Thresholds;
use self::usage::{EXECUTE, Usage};
use super::instance::ExecutionInstance;
use crate::RpcError;

/// The priority from which on nothing is throttled, and to which what is throttled is put.
const ORDINARY: i32 = 1;
/// How long a call waits for Redis.
const PATIENCE: Duration = Duration::from_secs(1);

/// Adds what was used, once for each key that tells of it.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
        local known, total = pcall(cjson.decode, redis.call('GET', KEYS[1]) or '{}')
        if not known or type(total) ~= 'table' then total = {} end
        for kind, amounts in pairs(cjson.decode(ARGV[1])) do
            total[kind] = total[kind] or {}
            for name, amount in pairs(amounts) do total[kind][name] = (total[kind][name] or 0) + amount end
        end
        local left = redis.call('TTL', KEYS[1])
        if left < 0 or left > tonumber(ARGV[2]) then left = tonumber(ARGV[2]) end
        redis.call('SET', KEYS[1], cjson.encode(total), 'EX', math.max(left, 1))
        redis.call('SET', KEYS[2], '', 'EX', ARGV[3])
        return 1",
    )
});

/// What becomes of an action of somebody who used more than they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// It is no more urgent than others.
    Deprioritize,
    /// It is refused.
    Reject,
}

/// What [`Metering`] works by.
#[derive(Clone, Debug)]
pub struct MeteringOptions {
    /// How much may be used.
    pub thresholds: Thresholds,
    /// How long use counts.
    pub window: Duration,
    /// How long an operation counts once.
    pub deduplication: Duration,
}

/// Who used how much of late.
#[derive(Debug)]
pub struct Metering {
    redis: Arc<RedisConnection>,
    options: MeteringOptions,
}

/// Metering as one scheduler has it.
#[derive(Clone, Debug)]
pub struct Metered {
    /// Where it is counted.
    pub metering: Arc<Metering>,
    /// What becomes of those above a threshold.
    pub throttle: Throttle,
}

/// Whose use it is: BuildGrid's key, with its fields in this order.
#[derive(Serialize)]
struct Key<'i> {
    instance: &'i str,
    workflow: &'i str,
    actor: &'i str,
    subject: &'i str,
}

impl<'i> Key<'i> {
    /// `None` for nobody: they have no account.
    fn of(instance: &'i str, client: &'i ClientIdentity) -> Option<Self> {
        let ClientIdentity { workflow, actor, subject } = client;
        let is_known = [workflow, actor, subject].into_iter().any(|part| !part.is_empty());
        is_known.then_some(Self { instance, workflow, actor, subject })
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Metered {
    /// The priority that an action gets which was asked for with `priority`.
    ///
    /// # Errors
    /// [`RpcError::Limit`] where its client used more than they may, and is refused for that.
    pub(crate) async fn admit(
        &self,
        instance: &str,
        client: &ClientIdentity,
        priority: i32,
    ) -> Result<i32, RpcError> {
        let Some(key) = Key::of(instance, client).filter(|_| priority < ORDINARY) else {
            return Ok(priority);
        };
        let used = match timeout(PATIENCE, self.metering.used(&key)).await {
            Ok(Ok(used)) => used,
            Ok(Err(error)) => {
                tracing::warn!(%error, "metering is away: nobody is throttled");
                return Ok(priority);
            }
            Err(_) => return Ok(priority),
        };
        let Key { instance, workflow, actor, subject } = key;
        let threshold = self.metering.options.thresholds.of([instance, workflow, actor, subject]);
        let above = used.above(threshold).into_iter().map(|(kind, name)| format!("{kind}.{name}"));
        let above: Vec<String> = above.collect();
        if above.is_empty() {
            return Ok(priority);
        }
        let window = self.metering.options.window;
        tracing::info!(subject, above = above.join(", "), "an action is throttled (metering)");
        match self.throttle {
            Throttle::Deprioritize => Ok(ORDINARY),
            Throttle::Reject => Err(RpcError::Limit {
                message: format!(
                    "{} of the last {} s are above what may be used (metering); call again later, or with priority {ORDINARY}",
                    above.join(", "),
                    window.as_secs()
                ),
                subject: subject.to_owned(),
                retry_after: Some(window),
            }),
        }
    }

    /// Counts a call of Execute; nobody waits for that.
    pub(crate) fn executes(&self, instance: &str, client: &ClientIdentity, operation: &str) {
        self.add(instance, client, format!("OPERATION={operation}"), Usage::of([(EXECUTE, 1)]));
    }

    /// Counts what an operation's action used; nobody waits for that.
    pub(crate) fn used(
        &self,
        instance: &str,
        client: &ClientIdentity,
        operation: &str,
        used: &ProcessResourceUsage,
    ) {
        let milliseconds = |time: Option<prost_types::Duration>| {
            let time = time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        };
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        let usage = Usage::of([
            (("computing", "utime"), milliseconds(used.utime)),
            (("computing", "stime"), milliseconds(used.stime)),
            (("computing", "maxrss"), whole(used.maxrss)),
            (("computing", "inblock"), whole(used.inblock)),
            (("computing", "oublock"), whole(used.oublock)),
        ]);
        // Its call was counted under its name alone.
        self.add(instance, client, format!("OPERATION={operation}/usage"), usage);
    }

    fn add(&self, instance: &str, client: &ClientIdentity, once: String, usage: Usage) {
        let Some(key) = Key::of(instance, client) else { return };
        let (metering, key) = (Arc::clone(&self.metering), key.text());
        let watch = Stopwatch::start(Step::PutUsage);
        tokio::spawn(async move {
            let added = async {
                let added = metering.add(&key, &once, &usage).await;
                watch.ended(&added);
                added
            };
            if let Ok(Err(error)) = timeout(PATIENCE, added).await {
                tracing::warn!(%error, "metering is away: use is not counted");
            }
        });
    }
}

/// Counts what the action of an operation used that has ended, where that is counted.
pub(super) fn note(
    instance: &Arc<ExecutionInstance>,
    asked: &grid_scheduler::operation::Operation,
    function: DigestFunction,
    ended: &Operation,
) {
    let (Some(metered), Some(Outcome::Response(response))) = (&instance.metering, &ended.result) else {
        return;
    };
    let Ok(response) = unpack::<ExecuteResponse>(response) else { return };
    let metadata = response.result.and_then(|result| result.execution_metadata);
    let Some(metadata) = metadata.filter(|_| !response.cached_result) else { return };
    let (metered, instance, asked) = (metered.clone(), Arc::clone(instance), asked.clone());
    let call = ServedCall::current();
    tokio::spawn(async move {
        let read = crate::bots::usage::read(&instance, function, &metadata.auxiliary_metadata).await;
        if let Some(used) = read.and_then(|statistics| statistics.command_rusage) {
            let note = || metered.used(&asked.instance, &asked.client, &asked.id.0.to_string(), &used);
            match call {
                Some(call) => call.enter(note),
                None => note(),
            }
        }
    });
}

impl Metering {
    /// Counts in the Redis that `redis` leads to.
    #[must_use]
    pub const fn new(redis: Arc<RedisConnection>, options: MeteringOptions) -> Self {
        Self { redis, options }
    }

    async fn used(&self, key: &Key<'_>) -> Result<Usage, StoreError> {
        let watch = Stopwatch::start(Step::GetThrottling);
        let found: Result<(Option<Vec<u8>>,), StoreError> = self.redis.attempt(pipe().get(key.text())).await;
        watch.ended(&found);
        let (found,) = found?;
        let Some(found) = found else { return Ok(Usage::default()) };
        let read = serde_json::from_slice(&found).map_err(|error| error.to_string());
        Ok(read.and_then(|value| Usage::read(&value)).unwrap_or_else(|error| {
            tracing::warn!(error, "an account of metering can't be read, and counts as empty");
            Usage::default()
        }))
    }

    async fn add(&self, key: &str, once: &str, usage: &Usage) -> Result<(), StoreError> {
        let Self { redis, options } = self;
        let mut script = ADD.key(key);
        script.key(once).arg(usage.to_json().to_string());
        script.arg(options.window.as_secs().max(1)).arg(options.deduplication.as_secs().max(1));
        redis.script(&script).await
    }
}
