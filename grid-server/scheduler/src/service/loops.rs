//! The tasks of a replica: claiming, listening, sweeping, and the slow look that makes up for lost news.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use grid_core::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::core::Core;
use super::observer::SchedulerEvent;
use super::patience::is_passing;
use super::{observer, waits};
use crate::SchedulerError;
use crate::engine::{self, Effects, Errand, Undelivered};
use crate::ids::{Ids, JobId, OperationId, SessionId};
use crate::job::Job;
use crate::properties::RequirementId;
use crate::store::Event;

/// How many rows one look takes.
pub(super) const CHUNK: usize = 1_000;
/// Every so many looks, watched operations are read too, and the fleet even if nothing waits for it.
const SLOW_ROUNDS: u64 = 3;
/// Every so many looks, requirements and turns are forgotten that nobody needs.
const FORGET_ROUNDS: u64 = 120;
/// How long a requirement is kept that nobody asks for: longer than a replica counts on its being there.
const UNUSED: Duration = Duration::from_hours(24);
/// How long idle bots' calls are gathered before the store is told of them.
const RENEWAL: Duration = Duration::from_secs(1);
/// The pause after a look at the queue that failed.
const AFTER_TROUBLE: Duration = Duration::from_millis(200);
/// How often it is looked whether an instance waits for leases that it is due.
const PREEMPT: Duration = Duration::from_secs(2);
/// The least time between two looks at the fleet.
const FLEET_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn spawn(
    core: &Arc<Core>,
    returned: mpsc::UnboundedReceiver<Undelivered>,
    ids: &Arc<dyn Ids>,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(dispatch(Arc::clone(core)));
    tasks.spawn(listen(Arc::clone(core)));
    tasks.spawn(sweep(Arc::clone(core), Arc::clone(ids)));
    tasks.spawn(look(Arc::clone(core), Arc::clone(ids)));
    tasks.spawn(take_back(Arc::clone(core), returned));
    tasks.spawn(follow_fleet(Arc::clone(core)));
    tasks.spawn(renew(Arc::clone(core)));
    tasks.spawn(waits::explain(Arc::clone(core)));
    if let Some(observer) = &core.options.observer {
        tasks.spawn(observer::count(Arc::clone(core), Arc::clone(observer)));
    }
    if !core.options.preempt_rules().cohorts.is_empty() {
        tasks.spawn(preempt(Arc::clone(core), Arc::clone(ids)));
    }
    if core.options.discard_unwatched_jobs {
        tasks.spawn(keep_watched(Arc::clone(core)));
    }
}

/// Claims for as long as free bots fit waiting jobs; one claim at a time, so that what arrives meanwhile is
/// served by the next one.
async fn dispatch(core: Arc<Core>) {
    loop {
        core.dispatcher.changed().await;
        if let Err(error) = learn(&core).await {
            note(&error, "requirements could not be read");
            // Nothing else need ever tell of them again.
            sleep(AFTER_TROUBLE).await;
            core.dispatcher.look_again();
        }
        while let Some(errand) = core.dispatcher.errand() {
            if let Err(error) = claim(&core, &errand).await {
                note(&error, "claim failed");
                // Whether it was committed is not known: the bots look for themselves.
                core.dispatcher.resync(errand.slots.iter().map(|s| s.session.id));
                core.dispatcher.queued(errand.wants.iter().map(|(id, _)| *id));
                sleep(AFTER_TROUBLE).await;
            }
        }
    }
}

async fn learn(core: &Core) -> Result<(), SchedulerError> {
    let unknown = core.dispatcher.unknown();
    if !unknown.is_empty() {
        core.dispatcher.learn(core.store.requirements(&unknown).await?);
    }
    Ok(())
}

async fn claim(core: &Core, errand: &Errand) -> Result<(), SchedulerError> {
    let began = Instant::now();
    let claimed = engine::claim(core.store.as_ref(), core.replica, errand, core.options.claim_rules()).await;
    core.observe(|| SchedulerEvent::Claimed { took: began.elapsed(), failed: claimed.is_err() });
    let (claim, effects) = claimed?;
    core.observe_second_best(&claim, errand);
    let more = errand.wants.iter().map(|(id, _)| *id).filter(|id| !claim.exhausted.contains(id));
    core.dispatcher.queued(more);
    core.dispatcher.hold_back(claim.held_back);
    core.apply(effects);
    core.observe_assigned(&claim.granted.iter().map(|(_, job)| job).collect::<Vec<_>>());
    let mut grants: HashMap<SessionId, Vec<Job>> = HashMap::new();
    for (session, job) in claim.granted {
        grants.entry(session).or_default().push(job);
    }
    // In the order of arrival, so that equal runs end equally.
    for slot in &errand.slots {
        if let Some(jobs) = grants.remove(&slot.session.id) {
            core.dispatcher.grant(slot.session.id, jobs, &errand.slots);
        }
    }
    core.dispatcher.resync(claim.lost);
    core.dispatcher.passed_over(&errand.slots);
    Ok(())
}

async fn listen(core: Arc<Core>) {
    let mut events = core.store.events().ready_chunks(256);
    while let Some(events) = events.next().await {
        let (mut jobs, mut streaming) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            match event {
                Event::Jobs(ids) => {
                    core.forget(&ids);
                    core.dispatcher.reconsider();
                    streaming.extend(core.streams.among(&ids));
                    jobs.extend(core.hub.watched(&ids));
                }
                Event::Cancelled(ids) => core.hub.cancel(&ids),
                Event::Queue(ids) => {
                    core.dispatcher.queued(ids);
                    core.waiting_changed.notify_one();
                }
                Event::Sessions(ids) => core.dispatcher.resync(ids),
                Event::Fleet => {
                    core.fleet_changed.notify_one();
                    core.dispatcher.reconsider();
                }
                Event::Resync => {
                    core.fleet_changed.notify_one();
                    core.dispatcher.resync_all();
                    let _ = look_once(&core, true).await;
                    core.compare_streams(None).await;
                }
            }
        }
        core.compare_streams(Some(streaming.into_iter().collect())).await;
        refresh(&core, jobs.into_iter().collect()).await;
    }
}

/// Reads jobs again and tells their watchers.
async fn refresh(core: &Core, ids: Vec<JobId>) {
    for chunk in ids.chunks(CHUNK) {
        match core.store.jobs(chunk).await {
            Ok(jobs) => jobs.into_iter().for_each(|job| core.hub.publish(&Arc::new(job))),
            Err(error) => note(&error, "watched jobs could not be read"),
        }
    }
}

async fn sweep(core: Arc<Core>, ids: Arc<dyn Ids>) {
    let rules = core.options.sweep_rules();
    loop {
        sleep(jittered(core.options.sweep_interval, ids.as_ref())).await;
        if !core.view().drains.is_empty() {
            match engine::enforce(core.store.as_ref(), core.options.retry).await {
                Ok(effects) => core.apply(effects),
                Err(error) => note(&error, "drains past their deadline go on"),
            }
        }
        loop {
            match engine::sweep(core.store.as_ref(), &rules).await {
                Ok((swept, effects)) => {
                    core.apply(effects);
                    for (kind, (jobs, took)) in swept.found {
                        core.observe(|| SchedulerEvent::Swept { kind, jobs, took });
                    }
                    if !swept.more {
                        break;
                    }
                }
                Err(error) => {
                    note(&error, "sweep failed");
                    break;
                }
            }
        }
    }
}

/// Takes leases for instances that have fewer than they are due.
async fn preempt(core: Arc<Core>, ids: Arc<dyn Ids>) {
    let rules = core.options.preempt_rules();
    loop {
        sleep(jittered(PREEMPT, ids.as_ref())).await;
        let taken = async {
            let shares = core.store.shares(Timestamp(i64::MAX)).await?;
            if shares.iter().all(|share| share.lacks() == 0) {
                return Ok(Effects::default());
            }
            let requirements = core.store.queued().await?;
            engine::preempt(core.store.as_ref(), &requirements, &rules).await
        };
        match taken.await {
            Ok(effects) => core.apply(effects),
            Err(error) => note(&error, "no leases are taken for instances that are due some"),
        }
    }
}

/// Tells the store, of many at once, that idle bots live.
async fn renew(core: Arc<Core>) {
    loop {
        core.dispatcher.calls().await;
        sleep(RENEWAL).await;
        let called = core.dispatcher.called();
        let lifetime = core.options.bot_session_keepalive_timeout;
        match engine::renew(core.store.as_ref(), core.replica, &called, lifetime).await {
            Ok(stale) => core.dispatcher.resync(stale),
            Err(error) => {
                note(&error, "sessions were not renewed");
                // Their bots' calls go to the store themselves.
                core.dispatcher.resync(called);
            }
        }
    }
}

/// Reads the fleet when it changed; changes that come together are read once.
async fn follow_fleet(core: Arc<Core>) {
    loop {
        if let Err(error) = core.read_fleet().await {
            note(&error, "pools and bots could not be read");
        }
        sleep(FLEET_PAUSE).await;
        core.fleet_changed.notified().await;
    }
}

async fn look(core: Arc<Core>, ids: Arc<dyn Ids>) {
    let mut seen_at = Instant::now();
    for round in 0_u64.. {
        let slow = round.is_multiple_of(SLOW_ROUNDS);
        let queued = look_once(&core, slow).await;
        if let Some(queued) = &queued {
            waits::note_down(&core, queued, &mut seen_at).await;
        }
        if slow || queued.is_none_or(|queued| !queued.is_empty()) {
            core.fleet_changed.notify_one();
        }
        if round % FORGET_ROUNDS == 1 {
            core.dispatcher.forget();
            core.compare_streams(None).await;
            if let Err(error) = engine::forget(core.store.as_ref(), UNUSED).await {
                note(&error, "what nobody asks for any more is kept");
            }
        }
        sleep(jittered(core.options.safety_poll, ids.as_ref())).await;
    }
}

/// What the news would have said: which requirements wait and, when `watched`, how watched operations stand. Gives what
/// waits, where that could be read.
async fn look_once(core: &Core, watched: bool) -> Option<Vec<RequirementId>> {
    let queued = core.store.queued().await;
    match &queued {
        Ok(queued) => core.dispatcher.queued(queued.iter().copied()),
        Err(error) => note(error, "the queue could not be read"),
    }
    if !watched {
        return queued.ok();
    }
    for chunk in core.hub.open().chunks(CHUNK) {
        if let Err(error) = look_at(core, chunk).await {
            note(&error, "watched operations could not be read");
        }
    }
    queued.ok()
}

/// Tells watchers how these operations and their jobs stand.
async fn look_at(core: &Core, watched: &[(OperationId, JobId)]) -> Result<(), SchedulerError> {
    let ids: Vec<_> = watched.iter().map(|(operation, _)| *operation).collect();
    let mut absent: HashMap<OperationId, JobId> = watched.iter().copied().collect();
    let mut over = Vec::new();
    for (operation, job) in core.store.operations(&ids).await? {
        core.hub.publish(&Arc::new(job));
        absent.remove(&operation.id);
        if operation.cancelled {
            over.push(operation.id);
        }
    }
    // An operation that was deleted is watched to its job's end; one whose job is gone too has none to come.
    if !absent.is_empty() {
        let jobs: BTreeSet<JobId> = absent.values().copied().collect();
        for job in core.store.jobs(&jobs.into_iter().collect::<Vec<_>>()).await? {
            absent.retain(|_, of| *of != job.id);
            core.hub.publish(&Arc::new(job));
        }
        over.extend(absent.into_keys());
    }
    core.hub.cancel(&over);
    Ok(())
}

async fn take_back(core: Arc<Core>, mut returned: mpsc::UnboundedReceiver<Undelivered>) {
    while let Some(undelivered) = returned.recv().await {
        let taken =
            engine::give_back(core.store.as_ref(), core.replica, &undelivered, core.options.retry).await;
        match taken {
            Ok(effects) => core.apply(effects),
            Err(error) => note(&error, "undelivered leases stay until their session ends"),
        }
    }
}

async fn keep_watched(core: Arc<Core>) {
    let grace = core.options.watch_grace;
    loop {
        sleep(grace / 3).await;
        let jobs: Vec<JobId> = core.hub.open().into_iter().map(|(_, job)| job).collect();
        for chunk in jobs.chunks(CHUNK) {
            if let Err(error) = extend(&core, chunk, grace).await {
                note(&error, "watches could not be renewed");
            }
        }
    }
}

async fn extend(core: &Core, jobs: &[JobId], grace: Duration) -> Result<(), SchedulerError> {
    let mut tx = core.store.begin().await?;
    let until = tx.now().after(grace);
    tx.extend_watch(jobs, until).await?;
    tx.commit().await
}

/// Between three quarters and five quarters of an interval, so that replicas don't fall into step.
fn jittered(interval: Duration, ids: &dyn Ids) -> Duration {
    let random = u32::from(ids.next().as_bytes()[15]);
    interval * (192 + random / 2) / 256
}

pub(super) fn note(error: &SchedulerError, what: &str) {
    if is_passing(error) {
        tracing::debug!(%error, "{what}");
    } else {
        tracing::warn!(%error, "{what}");
    }
}
