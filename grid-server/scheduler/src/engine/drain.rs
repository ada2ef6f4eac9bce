//! Bots, pools and nodes are to leave: no new leases, and at the deadline what runs is given back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Effects;
use crate::SchedulerError;
use crate::fleet::drain::deadline;
use crate::fleet::{Drain, DrainReason, DrainTarget};
use crate::session::Session;
use crate::store::{QueueStore, QueueTx, StoreResult};
use crate::transition::{self, Cause, RetryPolicy};

/// What is to drain.
#[derive(Clone, Debug)]
pub struct DrainOrder {
    /// What.
    pub targets: Vec<DrainTarget>,
    /// How long leases may still run.
    pub grace: Duration,
    /// Why.
    pub reason: DrainReason,
}

/// Begins drains; what drains already keeps the earlier deadline. The answers are in the order of the targets.
///
/// # Errors
/// [`SchedulerError::NotFound`] for a bot without a session; the store's.
pub async fn drain(
    store: &dyn QueueStore,
    order: &DrainOrder,
    policy: RetryPolicy,
) -> StoreResult<(Vec<Drain>, Effects)> {
    let mut tx = store.begin().await?;
    tx.lock_fleet().await?;
    let now = tx.now();
    let before: BTreeMap<DrainTarget, Drain> =
        tx.drains().await?.into_iter().map(|drain| (drain.target.clone(), drain)).collect();
    let sessions = tx.lock_covered(&order.targets).await?;
    let mut drains = Vec::with_capacity(order.targets.len());
    for target in &order.targets {
        if let DrainTarget::Bot(name) = target
            && !before.contains_key(target)
            && !sessions.iter().any(|session| session.bot_id == *name)
        {
            return Err(SchedulerError::NotFound(format!("bot {name:?}")));
        }
        let deadline = now.after(order.grace);
        let fresh =
            Drain { target: target.clone(), reason: order.reason, requested_at: now, deadline, returned: 0 };
        drains.push(match before.get(target) {
            Some(drain) => Drain { deadline: drain.deadline.min(deadline), ..drain.clone() },
            None => fresh,
        });
    }
    let mut effects = Effects::default();
    let mut marked = Vec::new();
    for mut session in sessions {
        let until = deadline(&drains, &session).into_iter().chain(session.drain_until).min();
        if until != session.drain_until {
            session.drain_until = until;
            effects.sessions.insert(session.id);
            marked.push(session);
        }
    }
    tx.save_sessions(&marked).await?;
    give_back(tx.as_mut(), &mut drains, &marked, policy, &mut effects).await?;
    tx.save_drains(&drains).await?;
    effects.fleet = true;
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((drains, effects))
}

/// Ends drains; bots that no other drain covers take work again. Ending what does not drain does nothing.
///
/// # Errors
/// The store's.
pub async fn undrain(store: &dyn QueueStore, targets: &[DrainTarget]) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    tx.lock_fleet().await?;
    let others: Vec<Drain> =
        tx.drains().await?.into_iter().filter(|drain| !targets.contains(&drain.target)).collect();
    let mut effects = Effects { fleet: true, ..Effects::default() };
    let mut changed = Vec::new();
    for mut session in tx.lock_covered(targets).await? {
        let until = deadline(&others, &session);
        if until != session.drain_until {
            session.drain_until = until;
            effects.sessions.insert(session.id);
            changed.push(session);
        }
    }
    tx.save_sessions(&changed).await?;
    tx.delete_drains(targets).await?;
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}

/// Past their deadline, what still runs is given back; drains of bots that have long gone are forgotten.
///
/// # Errors
/// The store's.
pub async fn enforce(store: &dyn QueueStore, policy: RetryPolicy) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    tx.lock_fleet().await?;
    let mut effects = Effects::default();
    let now = tx.now();
    let mut due: Vec<Drain> = tx.drains().await?.into_iter().filter(|drain| drain.deadline <= now).collect();
    let targets: Vec<DrainTarget> = due.iter().map(|drain| drain.target.clone()).collect();
    let sessions = tx.lock_covered(&targets).await?;
    let gone = |drain: &&Drain| {
        let bot = matches!(drain.target, DrainTarget::Bot(_));
        bot && drain.deadline.after(FORGET) <= now && !sessions.iter().any(|s| drain.target.covers(s))
    };
    let forgotten: Vec<DrainTarget> = due.iter().filter(gone).map(|drain| drain.target.clone()).collect();
    if !forgotten.is_empty() {
        tx.delete_drains(&forgotten).await?;
        due.retain(|drain| !forgotten.contains(&drain.target));
        effects.fleet = true;
    }
    if give_back(tx.as_mut(), &mut due, &sessions, policy, &mut effects).await? {
        tx.save_drains(&due).await?;
        effects.fleet = true;
    }
    if effects.fleet {
        effects.announce(tx.as_mut());
        tx.commit().await?;
    }
    Ok(effects)
}

/// How long a bot's drain is remembered after its deadline, for those who ask how it ended.
const FORGET: Duration = Duration::from_mins(5);

/// Takes back what sessions past their deadline run. Says whether there was anything.
async fn give_back(
    tx: &mut dyn QueueTx,
    drains: &mut [Drain],
    sessions: &[Session],
    policy: RetryPolicy,
    effects: &mut Effects,
) -> StoreResult<bool> {
    let now = tx.now();
    let late: Vec<&Session> =
        sessions.iter().filter(|session| session.drain_until.is_some_and(|until| until <= now)).collect();
    if late.is_empty() {
        return Ok(false);
    }
    let mut jobs = tx.lock_leased(&late.iter().map(|session| session.id).collect::<Vec<_>>()).await?;
    for job in &mut jobs {
        let holder = late.iter().find(|session| Some(session.id) == job.session());
        for drain in drains.iter_mut().filter(|drain| holder.is_some_and(|s| drain.target.covers(s))) {
            drain.returned += 1;
        }
        effects.sessions.extend(job.session());
        transition::release(job, Cause::GivenBack, policy, now);
    }
    tx.save_jobs(&jobs).await?;
    let any = !jobs.is_empty();
    jobs.into_iter().for_each(|job| effects.job(job));
    Ok(any)
}
