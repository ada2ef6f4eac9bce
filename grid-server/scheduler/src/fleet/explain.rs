//! [`explain`]: why a job waits, in a closed set of reasons and in words. Pure, so that clients, the Fleet service
//! and metrics say the same.

use super::pool::DeclaredPool;
use crate::properties::{Match, Requirement};
use crate::session::{BotStatus, Session};

/// Why a job has not finished; the names and numbers are those of the Fleet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the Fleet protocol describes each")]
#[repr(i32)]
pub enum WaitReason {
    NotWaiting = 1,
    BehindOthers = 2,
    ScalingUp = 3,
    PoolAtMaximum = 4,
    PoolNotScaled = 5,
    PoolStopped = 6,
    NoUsableBot = 7,
    NoPoolFits = 8,
    NoBotFits = 9,
}

/// What the scheduler knows of the fleet at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The declared pools.
    pub pools: &'a [DeclaredPool],
    /// The bots with a session.
    pub sessions: &'a [Session],
}

/// Why a requirement is not met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// The pool, or the bot where no pools are declared, that comes closest; empty where there is none.
    pub nearest: String,
    /// What it lacks.
    pub missing: Vec<(String, String)>,
    /// What is offered for the first key that lacks.
    pub offered: Vec<String>,
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The reason.
    pub reason: WaitReason,
    /// One or two sentences for a person.
    pub text: String,
    /// The pool that the job counts for; empty where none fits.
    pub pool: String,
    /// What lacks, where something does.
    pub mismatch: Option<Mismatch>,
}

impl Situation<'_> {
    /// The declared pool that jobs with this requirement count for.
    #[must_use]
    pub fn pool_for(&self, requirement: &Requirement) -> Option<&DeclaredPool> {
        let fits = |p: &&DeclaredPool| {
            p.pool.serves(&requirement.pool) && p.pool.missing(requirement).is_empty()
        };
        // The highest priority; among equals the first by name.
        self.pools.iter().filter(fits).min_by_key(|p| (-i64::from(p.pool.priority), p.pool.name.clone()))
    }

    fn fitting<'b>(&'b self, requirement: &'b Requirement) -> impl Iterator<Item = &'b Session> {
        self.sessions.iter().filter(|s| requirement.matches(&s.pool, &s.properties) > Match::No)
    }
}

/// Why a job with this requirement waits.
#[must_use]
pub fn explain(requirement: &Requirement, situation: &Situation<'_>) -> Explanation {
    let pool = situation.pool_for(requirement);
    let name = pool.map(|p| p.pool.name.clone()).unwrap_or_default();
    let say = |reason, text: String| Explanation { reason, text, pool: name.clone(), mismatch: None };
    let bots: Vec<&Session> = situation.fitting(requirement).collect();
    let usable = bots.iter().filter(|s| s.takes_work()).count();
    if usable > 0 {
        let text = format!("waits for its turn: {usable} workers can run it, and are busy with jobs before it");
        return say(WaitReason::BehindOthers, text);
    }
    match pool.map(|p| &p.pool) {
        Some(pool) if pool.max_workers == 0 => {
            let text = format!("pool {name} fits, and is stopped: it may have no workers now");
            say(WaitReason::PoolStopped, text)
        }
        Some(pool) if pool.autoscaled => {
            let text = format!("pool {name} is being scaled up; it may have {} workers", pool.max_workers);
            say(WaitReason::ScalingUp, text)
        }
        _ if !bots.is_empty() => {
            let ill = bots.iter().filter(|s| s.status != BotStatus::Ok).count();
            let text = format!(
                "every worker that fits is leaving or unwell ({} draining, {ill} unwell)",
                bots.iter().filter(|s| s.draining).count()
            );
            say(WaitReason::NoUsableBot, text)
        }
        Some(_) => {
            let text = format!("pool {name} fits, has no workers, and nobody scales it up");
            say(WaitReason::PoolNotScaled, text)
        }
        None => unmet(requirement, situation),
    }
}

fn unmet(requirement: &Requirement, situation: &Situation<'_>) -> Explanation {
    let found = mismatch(requirement, situation);
    let lacking = found.missing.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ");
    let asked = requirement.describe();
    let declared = !situation.pools.is_empty();
    let what = if declared { "pool" } else { "worker" };
    let mut text = format!("no {what} can run this: it asks for {asked}");
    if found.nearest.is_empty() {
        text.push_str(&format!(", and no {what} serves the instance"));
    } else {
        text.push_str(&format!("; the nearest {what}, {}, lacks {lacking}", found.nearest));
    }
    if let Some((key, _)) = found.missing.first() {
        let offered = if found.offered.is_empty() { "nothing".into() } else { found.offered.join(", ") };
        text.push_str(&format!(" (on offer for {key}: {offered})"));
    }
    let reason = if declared { WaitReason::NoPoolFits } else { WaitReason::NoBotFits };
    Explanation { reason, text, pool: String::new(), mismatch: Some(found) }
}

/// What comes nearest to a requirement, and what that lacks.
#[must_use]
pub fn mismatch(requirement: &Requirement, situation: &Situation<'_>) -> Mismatch {
    let pairs = |text: String| {
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        (key.to_owned(), value.to_owned())
    };
    let pools = situation.pools.iter().filter(|p| p.pool.serves(&requirement.pool));
    let mut candidates: Vec<(Vec<(String, String)>, String)> =
        pools.map(|p| (p.pool.missing(requirement), p.pool.name.clone())).collect();
    if situation.pools.is_empty() {
        let bots = situation.sessions.iter().filter(|s| s.pool == "*" || s.pool == requirement.pool);
        let lacks = |s: &Session| requirement.lacking(&s.properties).map(pairs).into_iter().collect();
        candidates = bots.map(|s| (lacks(s), s.bot_id.clone())).collect();
    }
    let nearest = candidates.into_iter().min_by_key(|(missing, name)| (missing.len(), name.clone()));
    let everything = || {
        let values = requirement.must.iter().flat_map(|(k, vs)| vs.iter().map(move |v| (k.clone(), v.clone())));
        values.collect()
    };
    let (missing, nearest) = nearest.unwrap_or_else(|| (everything(), String::new()));
    let offered = missing.first().map(|(key, _)| offered(key, situation)).unwrap_or_default();
    Mismatch { nearest, missing, offered }
}

fn offered(key: &str, situation: &Situation<'_>) -> Vec<String> {
    let from_pools = situation.pools.iter().flat_map(|p| {
        let images = if key == "container-image" { p.pool.runner_images.as_slice() } else { &[] };
        p.pool.properties.get(key).into_iter().flatten().chain(images)
    });
    let from_bots = situation.sessions.iter().filter_map(|s| s.properties.get(key)).flatten();
    let values: std::collections::BTreeSet<&String> = if situation.pools.is_empty() {
        from_bots.collect()
    } else {
        from_pools.collect()
    };
    values.into_iter().cloned().collect()
}
