//! Bots' reports: results taken, leases renewed, given back or lost, and what each session holds afterwards.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::Effects;
use crate::SchedulerError;
use crate::ids::{ReplicaId, SessionId};
use crate::job::{Job, Stage};
use crate::properties::Properties;
use crate::session::{BotStatus, News, ReportedLease, Session, Settled, reconcile};
use crate::store::{QueueStore, StoreResult};
use crate::transition::{Cause, RetryPolicy};

/// What a bot says in one call.
#[derive(Clone, Debug)]
pub struct BotReport {
    /// Its session.
    pub session: SessionId,
    /// Its own name, which must be that session's.
    pub bot_id: String,
    /// What it has now; `None` for no change.
    pub properties: Option<Properties>,
    /// How many leases it takes now; `None` for no change.
    pub capacity: Option<u32>,
    /// What it says of itself.
    pub status: BotStatus,
    /// What it says of its leases.
    pub leases: Vec<ReportedLease>,
    /// How long the session lives without another call.
    pub lifetime: Duration,
}

/// How long the session of a bot that leaves outlives its last lease: for an answer that is lost.
const LEAVING: Duration = Duration::from_secs(30);

/// What a session holds after a report.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The session, as saved.
    pub session: Session,
    /// The jobs whose leases it holds.
    pub held: Vec<Job>,
    /// Whether the bot does not know yet that it drains, or no longer does.
    pub drain_is_news: bool,
}

/// Takes a batch of reports. The answers are in its order.
///
/// # Errors
/// The store's. A report that can't be taken has an error of its own.
pub async fn sync(
    store: &dyn QueueStore,
    replica: ReplicaId,
    batch: &[BotReport],
    policy: RetryPolicy,
) -> StoreResult<(Vec<Result<Synced, SchedulerError>>, Effects)> {
    let mut tx = store.begin().await?;
    let ids: Vec<SessionId> = batch.iter().map(|r| r.session).collect();
    let mut sessions: HashMap<SessionId, Session> =
        tx.lock_sessions(&ids).await?.into_iter().map(|s| (s.id, s)).collect();
    let known: Vec<SessionId> = sessions.keys().copied().collect();
    let mut owned: HashMap<SessionId, Vec<Job>> = HashMap::new();
    for job in tx.lock_leased(&known).await? {
        if let Some(session) = job.session() {
            owned.entry(session).or_default().push(job);
        }
    }
    let (mut effects, mut answers) = (Effects::default(), Vec::with_capacity(batch.len()));
    let (mut changed, mut saved) = (BTreeMap::new(), BTreeMap::new());
    for report in batch {
        let now = tx.now();
        let answer = find(&mut sessions, report).map(|session| {
            let before = (session.version, session.owner);
            update(session, report, replica, now);
            let jobs = owned.remove(&session.id).unwrap_or_default();
            let busy = !jobs.is_empty();
            let settled = reconcile(session, jobs, &report.leases, policy, now);
            stand(session, report, busy, &settled, now);
            let drain_is_news = session.drain_told != session.drain_until.is_some();
            session.drain_told = session.drain_until.is_some();
            effects.fleet |= drain_is_news;
            if settled.changed.iter().any(|job| job.state.stage != Stage::Executing) {
                session.version += 1;
            }
            if before.1 != replica {
                effects.sessions.insert(session.id);
            }
            for job in settled.changed {
                changed.insert(job.id, job);
            }
            owned.insert(session.id, settled.held.clone());
            saved.insert(session.id, session.clone());
            Synced { session: session.clone(), held: settled.held, drain_is_news }
        });
        answers.push(answer);
    }
    let changed: Vec<Job> = changed.into_values().collect();
    tx.save_jobs(&changed).await?;
    tx.save_sessions(&saved.into_values().collect::<Vec<_>>()).await?;
    changed.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((answers, effects))
}

fn find<'a>(
    sessions: &'a mut HashMap<SessionId, Session>,
    report: &BotReport,
) -> Result<&'a mut Session, SchedulerError> {
    let session = sessions.get_mut(&report.session).ok_or(SchedulerError::SessionNotFound(report.session))?;
    if session.bot_id != report.bot_id {
        return Err(SchedulerError::SessionMismatch {
            session: report.session,
            bot_id: report.bot_id.clone(),
        });
    }
    Ok(session)
}

fn update(session: &mut Session, report: &BotReport, replica: ReplicaId, now: grid_core::Timestamp) {
    session.status = report.status;
    session.owner = replica;
    session.expires_at = now.after(report.lifetime);
    session.last_seen = now;
    session.calls += 1;
    if let Some(properties) = &report.properties {
        properties.clone_into(&mut session.properties);
    }
    if let Some(capacity) = report.capacity {
        session.capacity = capacity;
    }
}

/// What the report's leases say of the bot itself. Leases come without a call of the bot, so that one which held
/// some before this call and holds none after it became idle now.
fn stand(
    session: &mut Session,
    report: &BotReport,
    held_before: bool,
    settled: &Settled,
    now: grid_core::Timestamp,
) {
    let holds = !settled.held.is_empty();
    session.idle_since = match (holds, held_before) {
        (true, _) => None,
        (false, true) => Some(now),
        (false, false) => session.idle_since.or(Some(now)),
    };
    let taken = |lease: &&ReportedLease| settled.changed.iter().any(|job| job.id == lease.job);
    for lease in report.leases.iter().filter(taken) {
        match lease.news {
            News::Finished(_) => session.faults = 0,
            News::Failed(Cause::Internal) => session.faults = session.faults.saturating_add(1),
            News::Failed(_) | News::Running(_) => {}
        }
    }
    if session.status == BotStatus::Terminating && !holds {
        session.expires_at = session.expires_at.min(now.after(LEAVING));
    }
}
