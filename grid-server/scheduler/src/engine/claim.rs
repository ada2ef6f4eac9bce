//! Taking work for the bots that are connected to this replica: many jobs for many bots in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Effects;
use crate::assign::{self, Slots};
use crate::ids::{ReplicaId, SessionId};
use crate::job::Job;
use crate::properties::{Requirement, RequirementId};
use crate::store::{FlowKey, QueueStore, StoreResult};
use crate::transition;

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claim {
    /// The jobs, each with the session that holds it now.
    pub granted: Vec<(SessionId, Job)>,
    /// Requirements of which fewer jobs were waiting than the bots had room for.
    pub exhausted: Vec<RequirementId>,
    /// Sessions that are no longer this replica's to serve.
    pub lost: Vec<SessionId>,
}

/// Gives waiting jobs to free bots. `wants` says which requirements to look at, and how many jobs of each.
///
/// # Errors
/// The store's.
pub async fn claim(
    store: &dyn QueueStore,
    replica: ReplicaId,
    slots: &[Slots],
    wants: &[(RequirementId, u32)],
    requirements: &HashMap<RequirementId, Requirement>,
    fair: bool,
) -> StoreResult<(Claim, Effects)> {
    let mut tx = store.begin().await?;
    let ids: Vec<SessionId> = slots.iter().map(|s| s.session.id).collect();
    let locked: HashMap<SessionId, _> =
        tx.lock_sessions(&ids).await?.into_iter().map(|session| (session.id, session)).collect();
    let mine = |s: &&Slots| locked.get(&s.session.id).is_some_and(|l| l.owner == replica && l.takes_work());
    let ready: Vec<Slots> = slots.iter().filter(mine).cloned().collect();
    let kept: HashSet<SessionId> = ready.iter().map(|s| s.session.id).collect();
    let lost = ids.into_iter().filter(|id| !kept.contains(id)).collect();
    let mut claim = Claim { lost, ..Claim::default() };

    let jobs = tx.lock_queued(wants).await?;
    let mut found: HashMap<RequirementId, u32> = HashMap::new();
    for job in &jobs {
        *found.entry(job.spec.requirement).or_default() += 1;
    }
    let fewer = |(id, want): &&(RequirementId, u32)| found.get(id).copied().unwrap_or(0) < *want;
    claim.exhausted = wants.iter().filter(fewer).map(|(id, _)| *id).collect();

    let plan = assign::plan(&jobs, &ready, requirements);
    let mut clocks: BTreeMap<FlowKey, i64> = BTreeMap::new();
    let mut effects = Effects::default();
    for (mut job, session) in jobs.into_iter().zip(plan) {
        let Some(session) = session.and_then(|id| locked.get(&id)) else {
            // Another replica may have passed over this row while it was locked here.
            effects.queued.insert(job.spec.requirement);
            continue;
        };
        if transition::assign(&mut job, session, tx.now()).is_some() {
            let clock =
                FlowKey { pool: job.spec.pool.clone(), priority: job.state.priority, flow: String::new() };
            let turn = clocks.entry(clock).or_default();
            *turn = job.state.turn.max(*turn);
            claim.granted.push((session.id, job));
        }
    }
    if claim.granted.is_empty() && effects.queued.is_empty() {
        return Ok((claim, effects));
    }
    let granted: Vec<Job> = claim.granted.iter().map(|(_, job)| job.clone()).collect();
    tx.save_jobs(&granted).await?;
    if fair {
        tx.serve_turns(&clocks.into_iter().collect::<Vec<_>>()).await?;
    }
    granted.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((claim, effects))
}
