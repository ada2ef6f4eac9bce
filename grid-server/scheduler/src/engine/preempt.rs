//! Leases are taken from instances that have more than they are due, for others that have less and wait too long.
//!
//! What is taken waits again, in its old place. Its bot is given to whoever is due by the next claim, as any free bot.

use std::time::Duration;

use super::Effects;
use crate::job::Job;
use crate::properties::RequirementId;
use crate::quota::{Cohort, Ledger};
use crate::store::{Order, QueueStore, QueueTx, StoreResult, Want};
use crate::transition::{self, Cause, RetryPolicy};

/// When and where leases are taken.
#[derive(Clone, Debug)]
pub struct PreemptRules {
    /// In which cohorts.
    pub cohorts: Vec<Cohort>,
    /// How long a job waits before a lease is taken for it.
    pub delay: Duration,
    /// How long what was taken lowers what its instance may hold.
    pub cooldown: Duration,
    /// How often jobs are retried.
    pub retry: RetryPolicy,
}

/// How long a bot may take to hear that a lease was taken: meanwhile none is taken for the same need.
const SETTLE: Duration = Duration::from_secs(10);

/// Takes what is due, of jobs with these requirements.
///
/// # Errors
/// The store's.
pub async fn preempt(
    store: &dyn QueueStore,
    requirements: &[RequirementId],
    rules: &PreemptRules,
) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    let now = tx.now();
    let names: Vec<String> = rules.cohorts.iter().map(|cohort| cohort.name.clone()).collect();
    let settling = Ledger::new(tx.lock_shares(&names, now.before(SETTLE)).await?);
    let mut ledger = Ledger::new(tx.lock_shares(&names, now.before(rules.cooldown)).await?);
    let (mut evicted, mut jobs) = (Vec::new(), Vec::new());
    for cohort in &rules.cohorts {
        let taken = settling.evicted(&cohort.name);
        for job in due(tx.as_mut(), requirements, cohort, &ledger, rules, taken).await? {
            let Some(mut lent) = lender(tx.as_mut(), cohort, &ledger, &job, &jobs).await? else { continue };
            ledger.evict(&cohort.name, &lent.spec.instance);
            evicted.push((cohort.name.clone(), lent.spec.instance.clone()));
            let session = lent.session();
            transition::release(&mut lent, Cause::Preempted, rules.retry, now);
            jobs.push((session, lent));
        }
    }
    let mut effects = Effects::default();
    if jobs.is_empty() {
        return Ok(effects);
    }
    effects.sessions.extend(jobs.iter().filter_map(|(session, _)| *session));
    let jobs: Vec<Job> = jobs.into_iter().map(|(_, job)| job).collect();
    tx.save_jobs(&jobs).await?;
    tx.note_evictions(&evicted).await?;
    jobs.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}

/// The jobs that a lease may be taken for: no more than their instances lack, less what was taken already and is on its
/// way.
async fn due(
    tx: &mut dyn QueueTx,
    requirements: &[RequirementId],
    cohort: &Cohort,
    ledger: &Ledger,
    rules: &PreemptRules,
    taken: u32,
) -> StoreResult<Vec<Job>> {
    let mut found = Vec::new();
    let mut left = ledger.owed(&cohort.name).map(|(_, lacks)| lacks).sum::<u32>().saturating_sub(taken);
    for (instance, lacks) in ledger.owed(&cohort.name) {
        let only = Some(vec![instance.to_owned()]);
        let want = |id: &RequirementId| Want { only: only.clone(), ..Want::new(*id, lacks) };
        let wants: Vec<Want> = requirements.iter().map(want).collect();
        let late = tx.now().before(rules.delay);
        let mut jobs = tx.lock_queued(&wants, Order::Turn).await?;
        jobs.retain(|job| job.state.queued_at <= late && cohort.labels.contains(&job.spec.label));
        let most = lacks.min(left);
        jobs.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        left -= u32::try_from(jobs.len()).unwrap_or(left);
        found.extend(jobs);
    }
    Ok(found)
}

/// A job whose lease can be taken for another's.
async fn lender<T: Sync>(
    tx: &mut dyn QueueTx,
    cohort: &Cohort,
    ledger: &Ledger,
    job: &Job,
    taken: &[(T, Job)],
) -> StoreResult<Option<Job>> {
    let lenders: Vec<String> =
        ledger.lenders(&cohort.name).filter(|name| *name != job.spec.instance).map(str::to_owned).collect();
    if lenders.is_empty() {
        return Ok(None);
    }
    // Those that were taken before in this transaction are found again: they are not saved yet.
    let most = u32::try_from(taken.len()).unwrap_or(u32::MAX).saturating_add(1);
    let found = tx.lock_lent(&cohort.name, &lenders, job.spec.requirement, most).await?;
    Ok(found.into_iter().find(|lent| taken.iter().all(|(_, other)| other.id != lent.id)))
}
