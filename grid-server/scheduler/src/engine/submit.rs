//! Accepting jobs: a new row, or another operation on a row that does the same.

use std::collections::{BTreeMap, HashMap};

use super::Effects;
use crate::SchedulerError;
use crate::ids::JobId;
use crate::job::Job;
use crate::operation::Operation;
use crate::properties::Requirement;
use crate::store::{FlowKey, QueueStore, QueueTx, StoreResult};
use crate::transition;

/// How often a batch looks again for jobs that ended between its insert and its lock.
const MERGE_ATTEMPTS: usize = 8;
/// The distance between two turns of one flow.
const TURN: i64 = 1 << 20;

/// One `Execute` call.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The job, should none that does the same be under way. Its times are set by the store's clock.
    pub job: Job,
    /// The client's operation.
    pub operation: Operation,
    /// What the job asks of a bot, where other replicas may not know it yet.
    pub requirement: Option<Requirement>,
    /// How long the client counts as watching without being heard of.
    pub watch_grace: std::time::Duration,
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The operation, with the job that it got.
    pub operation: Operation,
    /// The job.
    pub job: Job,
    /// Whether the job was under way before.
    pub merged: bool,
}

/// Accepts a batch. The answers are in its order.
///
/// `placed` is called with each answer before it is final, while the job's row is still locked: who begins to
/// watch then misses nothing.
///
/// # Errors
/// The store's.
pub async fn submit(
    store: &dyn QueueStore,
    batch: &[Submission],
    fair: bool,
    placed: &mut (dyn FnMut(&Submitted) + Send),
) -> StoreResult<(Vec<Submitted>, Effects)> {
    let mut tx = store.begin().await?;
    let requirements: Vec<Requirement> = batch.iter().filter_map(|s| s.requirement.clone()).collect();
    if !requirements.is_empty() {
        tx.intern(&requirements).await?;
    }
    let mut jobs = distinct_jobs(batch, tx.now());
    if fair {
        take_turns(tx.as_mut(), &mut jobs).await?;
    }
    let (places, mut effects) = place(tx.as_mut(), jobs, batch).await?;
    let submitted: Vec<Submitted> = batch.iter().filter_map(|s| answer(s, &places, tx.now())).collect();
    if submitted.len() != batch.len() {
        return Err(SchedulerError::Conflict("jobs came and went faster than they could be joined".into()));
    }
    let operations: Vec<Operation> = submitted.iter().map(|s| s.operation.clone()).collect();
    tx.insert_operations(&operations).await?;
    submitted.iter().for_each(placed);
    effects.jobs.clear(); // The caller sees the job in the answer, and nobody else can watch it yet.
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((submitted, effects))
}

/// A slot is what submissions that can share a job share.
fn slot(submission: &Submission) -> String {
    submission.job.live_merge_key().unwrap_or_else(|| submission.job.id.to_string())
}

/// One job for each slot of the batch, in the order of merge keys so that two batches never wait for each other.
fn distinct_jobs(batch: &[Submission], now: grid_core::Timestamp) -> Vec<Job> {
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    for submission in batch {
        let mut job = submission.job.clone();
        job.state.queued_at = now;
        job.state.watched_until = now.after(submission.watch_grace);
        if let Some(completed) = &mut job.state.completed_at {
            *completed = now; // Answered by the action cache.
        }
        let first = jobs.entry(slot(submission)).or_insert_with(|| job.clone());
        transition::join(first, job.state.priority, job.state.watched_until);
    }
    jobs.into_values().collect()
}

async fn take_turns(tx: &mut dyn QueueTx, jobs: &mut [Job]) -> StoreResult<()> {
    let mut flows: BTreeMap<FlowKey, Vec<usize>> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        // The clock's own flow is the empty one.
        let flow = format!("={}", job.spec.flow);
        let key = FlowKey { pool: job.spec.pool.clone(), priority: job.state.priority, flow };
        flows.entry(key).or_default().push(index);
    }
    let wanted: Vec<(FlowKey, u32)> =
        flows.iter().map(|(key, of)| (key.clone(), u32::try_from(of.len()).unwrap_or(u32::MAX))).collect();
    let last = tx.take_turns(&wanted, TURN).await?;
    for (indices, last) in flows.values().zip(last) {
        for (back, index) in indices.iter().rev().enumerate() {
            if let Some(job) = jobs.get_mut(*index) {
                job.state.turn = last.saturating_sub(TURN.saturating_mul(i64::try_from(back).unwrap_or(0)));
            }
        }
    }
    Ok(())
}

/// Where each slot's job is: inserted now, or under way before.
struct Placed {
    job: Job,
    merged: bool,
}

async fn place(
    tx: &mut dyn QueueTx,
    jobs: Vec<Job>,
    batch: &[Submission],
) -> StoreResult<(HashMap<String, Placed>, Effects)> {
    let slots: HashMap<JobId, String> = batch.iter().map(|s| (s.job.id, slot(s))).collect();
    let slot_of = |id: &JobId| slots.get(id).cloned().unwrap_or_default();
    let mut placed = HashMap::new();
    let mut effects = Effects::default();
    let mut pending = jobs;
    for _ in 0..MERGE_ATTEMPTS {
        let refused = tx.insert_jobs(&pending).await?;
        let (blocked, inserted): (Vec<Job>, Vec<Job>) =
            pending.into_iter().partition(|job| refused.contains(&job.id));
        for job in inserted {
            effects.job(job.clone());
            placed.insert(slot_of(&job.id), Placed { job, merged: false });
        }
        if blocked.is_empty() {
            return Ok((placed, effects));
        }
        let keys: Vec<String> = blocked.iter().filter_map(Job::live_merge_key).collect();
        let mut there: HashMap<String, Job> = HashMap::new();
        for job in tx.lock_merge_keys(&keys).await? {
            there.extend(job.spec.merge_key().map(|key| (key, job)));
        }
        let mut joined = Vec::new();
        pending = Vec::new();
        for job in blocked {
            match there.remove(&slot_of(&job.id)) {
                // Ours already, from a commit whose answer was lost.
                None if let Some(ours) = tx.lock_jobs(&[job.id]).await?.pop() => {
                    placed.insert(slot_of(&ours.id), Placed { job: ours, merged: false });
                }
                Some(mut live) => {
                    if transition::join(&mut live, job.state.priority, job.state.watched_until) {
                        joined.push(live.clone());
                    }
                    placed.insert(slot_of(&job.id), Placed { job: live, merged: true });
                }
                None => pending.push(job),
            }
        }
        tx.save_jobs(&joined).await?;
        if pending.is_empty() {
            return Ok((placed, effects));
        }
    }
    Ok((placed, effects))
}

fn answer(
    submission: &Submission,
    placed: &HashMap<String, Placed>,
    now: grid_core::Timestamp,
) -> Option<Submitted> {
    let placed = placed.get(&slot(submission))?;
    let operation = Operation { job: placed.job.id, created_at: now, ..submission.operation.clone() };
    let merged = placed.merged || placed.job.id != submission.job.id;
    Some(Submitted { operation, job: placed.job.clone(), merged })
}
