//! Taking work for the bots that are connected to this replica: many jobs for many bots in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::Effects;
use crate::assign::{Plan, Rule, Slots};
use crate::ids::{JobId, ReplicaId, SessionId};
use crate::job::Job;
use crate::properties::{Match, Requirement, RequirementId};
use crate::quota::Ledger;
use crate::store::{FlowKey, Order, QueueStore, QueueTx, StoreResult, Want};
use crate::transition;

/// What a claim is to look at.
#[derive(Debug)]
pub struct Errand {
    /// The bots, in the order of their arrival.
    pub slots: Vec<Slots>,
    /// How many jobs of which requirements they have room for.
    pub wants: Vec<(RequirementId, u32)>,
    /// Of these, how many go to the oldest jobs, whatever their priority.
    pub aged: Vec<(RequirementId, u32)>,
    /// What the requirements say.
    pub requirements: HashMap<RequirementId, Requirement>,
}

impl Errand {
    /// Whether a job prefers what the bot has not.
    fn is_second_best(&self, slot: &Slots, job: &Job) -> bool {
        let requirement = self.requirements.get(&job.spec.requirement);
        requirement.filter(|requirement| !requirement.prefer.is_empty()).is_some_and(|requirement| {
            requirement.matches(&slot.session.pool, &slot.offer) < Match::Preferred
        })
    }
}

/// How claims are made.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRules {
    /// Whether invocations take turns.
    pub fair: bool,
    /// How long an instance does without what was taken from it for others.
    pub cooldown: Duration,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claim {
    /// The jobs, each with the session that holds it now.
    pub granted: Vec<(SessionId, Job)>,
    /// Requirements of which fewer jobs were waiting than the bots had room for.
    pub exhausted: Vec<RequirementId>,
    /// Those of them of which jobs may wait all the same, for their quotas admit no more: a lease that ends may change
    /// that.
    pub held_back: Vec<RequirementId>,
    /// Sessions that are no longer this replica's to serve.
    pub lost: Vec<SessionId>,
    /// Of the granted jobs, those whose bots have not all that they prefer.
    pub second_best: Vec<JobId>,
}

/// Gives waiting jobs to free bots.
///
/// # Errors
/// The store's.
pub async fn claim(
    store: &dyn QueueStore,
    replica: ReplicaId,
    errand: &Errand,
    rules: ClaimRules,
) -> StoreResult<(Claim, Effects)> {
    let mut tx = store.begin().await?;
    let ids: Vec<SessionId> = errand.slots.iter().map(|s| s.session.id).collect();
    let locked: HashMap<SessionId, _> =
        tx.lock_sessions(&ids).await?.into_iter().map(|session| (session.id, session)).collect();
    let mine = |s: &&Slots| locked.get(&s.session.id).is_some_and(|l| l.owner == replica && l.takes_work());
    let ready: Vec<Slots> = errand.slots.iter().filter(mine).cloned().collect();
    let kept: HashSet<SessionId> = ready.iter().map(|s| s.session.id).collect();
    let lost = ids.into_iter().filter(|id| !kept.contains(id)).collect();
    let mut claim = Claim { lost, ..Claim::default() };

    let ledger = ledger(tx.as_mut(), &ready, rules.cooldown).await?;
    let mut looks =
        Looks { errand, plan: Plan::new(&ready, &errand.requirements, ledger), placed: Vec::new() };
    let left = looks.all(tx.as_mut(), &mut claim).await?;
    // Another replica may have passed over these rows while they were locked here.
    let mut effects =
        Effects { queued: left.iter().map(|job| job.spec.requirement).collect(), ..Effects::default() };
    let mut clocks: BTreeMap<FlowKey, i64> = BTreeMap::new();
    for (slot, mut job) in looks.placed {
        let Some(session) = locked.get(&slot.session.id) else { continue };
        if transition::assign(&mut job, session, &slot.cohort, tx.now()).is_some() {
            let clock =
                FlowKey { pool: job.spec.pool.clone(), priority: job.state.priority, flow: String::new() };
            let turn = clocks.entry(clock).or_default();
            *turn = job.state.turn.max(*turn);
            if errand.is_second_best(slot, &job) {
                claim.second_best.push(job.id);
            }
            claim.granted.push((session.id, job));
        }
    }
    if claim.granted.is_empty() && effects.queued.is_empty() {
        return Ok((claim, effects));
    }
    let granted: Vec<Job> = claim.granted.iter().map(|(_, job)| job.clone()).collect();
    tx.save_jobs(&granted).await?;
    if rules.fair {
        tx.serve_turns(&clocks.into_iter().collect::<Vec<_>>()).await?;
    }
    granted.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((claim, effects))
}

/// The quotas of the bots' cohorts; without cohorts there is nothing to ask for.
async fn ledger(tx: &mut dyn QueueTx, ready: &[Slots], cooldown: Duration) -> StoreResult<Ledger> {
    let cohorts: BTreeSet<&str> =
        ready.iter().map(|slot| slot.cohort.as_str()).filter(|cohort| !cohort.is_empty()).collect();
    if cohorts.is_empty() {
        return Ok(Ledger::default());
    }
    let cohorts: Vec<String> = cohorts.into_iter().map(str::to_owned).collect();
    let since = tx.now().before(cooldown);
    Ok(Ledger::new(tx.lock_shares(&cohorts, since).await?))
}

/// The looks at the queue of one claim: for instances that are due leases, for the oldest jobs, and for all.
struct Looks<'a> {
    errand: &'a Errand,
    plan: Plan<'a>,
    placed: Vec<(&'a Slots, Job)>,
}

impl<'a> Looks<'a> {
    /// Gives the jobs that were found and not placed.
    async fn all(&mut self, tx: &mut dyn QueueTx, claim: &mut Claim) -> StoreResult<Vec<Job>> {
        let errand = self.errand;
        let due = |want: &(RequirementId, u32)| (want.0, want.1, self.plan.due(want.0));
        let due = errand.wants.iter().map(due).filter(|(_, _, instances)| !instances.is_empty());
        let due: Vec<Want> =
            due.map(|(id, most, instances)| Want { only: Some(instances), ..Want::new(id, most) }).collect();
        self.look(tx, due, Order::Turn, Rule::Due).await?;
        let aged = self.wants(&errand.aged);
        self.look(tx, aged, Order::Age, Rule::Admitted).await?;

        let wants = self.wants(&errand.wants);
        let (left, fewer) = self.look(tx, wants.clone(), Order::Turn, Rule::Admitted).await?;
        let barred = |id: &RequirementId| wants.iter().any(|w| w.requirement == *id && !w.except.is_empty());
        claim.held_back = fewer.iter().filter(|id| barred(id)).copied().collect();
        claim.exhausted = fewer;
        Ok(left)
    }

    fn wants(&mut self, of: &[(RequirementId, u32)]) -> Vec<Want> {
        of.iter().map(|(id, most)| Want { except: self.plan.barred(*id), ..Want::new(*id, *most) }).collect()
    }

    /// Looks once, past what was placed before. Gives what was found and not placed, and the requirements of which
    /// there was less than wanted.
    async fn look(
        &mut self,
        tx: &mut dyn QueueTx,
        mut wants: Vec<Want>,
        order: Order,
        rule: Rule,
    ) -> StoreResult<(Vec<Job>, Vec<RequirementId>)> {
        if wants.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let before: HashSet<JobId> = self.placed.iter().map(|(_, job)| job.id).collect();
        let of = |id: RequirementId| self.placed.iter().filter(|(_, job)| job.spec.requirement == id).count();
        for want in &mut wants {
            want.most = want.most.saturating_add(u32::try_from(of(want.requirement)).unwrap_or(u32::MAX));
        }
        let jobs = tx.lock_queued(&wants, order).await?;
        let mut found: HashMap<RequirementId, u32> = HashMap::new();
        for job in &jobs {
            *found.entry(job.spec.requirement).or_default() += 1;
        }
        let fewer = wants.iter().filter(|w| found.get(&w.requirement).copied().unwrap_or(0) < w.most);
        let fewer = fewer.map(|want| want.requirement).collect();
        let mut left = Vec::new();
        for job in jobs.into_iter().filter(|job| !before.contains(&job.id)) {
            match self.plan.place(&job, rule) {
                Some(slot) => self.placed.push((slot, job)),
                None => left.push(job),
            }
        }
        Ok((left, fewer))
    }
}
