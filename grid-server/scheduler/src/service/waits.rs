//! Telling those who wait why, writing it down, and ending what can never run.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::core::Core;
use super::fleet::requirements;
use super::loops::note;
use crate::SchedulerError;
use crate::engine;
use crate::fleet::explain::explain as why;
use crate::fleet::waits::{GAP, Seen};
use crate::fleet::{Explanation, WaitReason};
use crate::properties::RequirementId;

/// A job that is taken at once needs no reason: so long nobody is told.
const FIRST: Duration = Duration::from_millis(250);
/// How often jobs that nothing fits are looked at while there are any.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes down why what is queued waits. `seen_at` is when this replica last looked.
pub(super) async fn note_down(core: &Core, queued: &[RequirementId], seen_at: &mut Instant) {
    let blind = Some(seen_at.elapsed()).filter(|blind| *blind > GAP);
    if queued.is_empty() && blind.is_none() {
        *seen_at = Instant::now();
        return;
    }
    let noted = async {
        let view = core.view();
        let known = requirements(core, queued).await?;
        let waiting = known.iter().map(|(id, requirement)| (*id, why(&view, requirement))).collect();
        engine::note_waits(core.store.as_ref(), &Seen { waiting, blind }).await
    };
    match noted.await {
        Ok(()) => *seen_at = Instant::now(),
        Err(error) => note(&error, "why jobs wait is not written down"),
    }
}

/// Explains whenever something changed, and every second while something can't be placed.
pub(super) async fn explain(core: Arc<Core>) {
    let mut unplaceable: HashMap<RequirementId, Instant> = HashMap::new();
    loop {
        if unplaceable.is_empty() {
            core.waiting_changed.notified().await;
        } else {
            // News or not: the grace runs.
            let _ = timeout(AGAIN, core.waiting_changed.notified()).await;
        }
        sleep(FIRST).await;
        if let Err(error) = wake(&core).await {
            note(&error, "pools that are wanted could not be told");
        }
        let reasons = reasons(&core);
        tell(&core, &reasons);
        let stuck: HashSet<RequirementId> = reasons
            .iter()
            .filter(|(_, why)| why.reason == WaitReason::NoPoolFits)
            .map(|(id, _)| *id)
            .collect();
        unplaceable.retain(|id, _| stuck.contains(id));
        let now = Instant::now();
        for id in stuck {
            unplaceable.entry(id).or_insert(now);
        }
        if let Err(error) = refuse(&core, &reasons, &unplaceable).await {
            note(&error, "jobs that nothing fits wait on");
        }
    }
}

/// Tells the pools that new jobs count for and that have no free slot that they are wanted.
async fn wake(core: &Core) -> Result<(), SchedulerError> {
    let view = core.view();
    let mut pools = BTreeSet::new();
    for requirement in core.arrived().into_iter().filter_map(|id| core.dispatcher.requirement(id)) {
        if view.bots_for(&requirement).all(|bot| bot.free() == 0) {
            pools.extend(view.place(&requirement, 0).map(|pool| pool.name.clone()));
        }
    }
    if pools.is_empty() {
        return Ok(());
    }
    let pools: Vec<String> = pools.into_iter().collect();
    core.apply(engine::wake(core.store.as_ref(), &pools).await?);
    Ok(())
}

/// Why jobs wait, by what they ask for.
fn reasons(core: &Core) -> HashMap<RequirementId, Arc<Explanation>> {
    let view = core.view();
    let mut requirements: HashMap<_, _> = core.dispatcher.hints().into_iter().collect();
    for id in core.hub.waiting() {
        if let Some(requirement) = core.dispatcher.requirement(id) {
            requirements.entry(id).or_insert(requirement);
        }
    }
    requirements.into_iter().map(|(id, requirement)| (id, Arc::new(why(&view, &requirement)))).collect()
}

/// Tells watchers what keeps their jobs waiting, unless it is only jobs before them.
fn tell(core: &Core, reasons: &HashMap<RequirementId, Arc<Explanation>>) {
    let worth = |why: &Explanation| !matches!(why.reason, WaitReason::BehindOthers | WaitReason::NotWaiting);
    let told = reasons.iter().filter(|(_, why)| worth(why)).map(|(id, why)| (*id, Arc::clone(why)));
    core.hub.explain(&told.collect());
}

/// Ends jobs that could not be placed for as long as the grace.
async fn refuse(
    core: &Core,
    reasons: &HashMap<RequirementId, Arc<Explanation>>,
    unplaceable: &HashMap<RequirementId, Instant>,
) -> Result<(), SchedulerError> {
    if unplaceable.is_empty() {
        return Ok(());
    }
    let waiting = core.store.queued().await?;
    let gone: Vec<RequirementId> = unplaceable.keys().filter(|id| !waiting.contains(id)).copied().collect();
    core.dispatcher.settled(&gone);
    let Some(grace) = core.options.unplaceable_grace else { return Ok(()) };
    for (id, since) in unplaceable.iter().filter(|(id, since)| since.elapsed() >= grace && !gone.contains(id))
    {
        let Some(why) = reasons.get(id) else { continue };
        let text = format!("{} It waited {} s for one.", why.text, since.elapsed().as_secs());
        let limit = u32::try_from(core.options.batch).unwrap_or(u32::MAX);
        core.apply(engine::refuse(core.store.as_ref(), *id, grace, &text, limit).await?);
    }
    Ok(())
}
