//! Why a job waits, in a reason that programs read and a text that people do.

use std::collections::BTreeSet;

use super::image;
use super::pool::Pool;
use super::view::View;
use crate::properties::Requirement;

/// Why a job waits. A closed set: texts may change, these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitReason {
    /// It runs or is over.
    NotWaiting,
    /// Workers that fit are busy with jobs before it.
    BehindOthers,
    /// Its pool is being scaled up.
    ScalingUp,
    /// Its pool has as many workers as it may.
    PoolAtMaximum,
    /// Its pool has no workers, and nobody scales it up.
    PoolNotScaled,
    /// Its pool may have no workers now.
    PoolStopped,
    /// Every worker that fits is draining, lost or unhealthy.
    NoUsableBot,
    /// Pools are declared and none can ever fit.
    NoPoolFits,
    /// No pools are declared, and no bot that is connected fits.
    NoBotFits,
    /// No server reached the database. Told of the past alone.
    NoScheduler,
}

/// Why a requirement is not met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// The pool that comes closest; empty where there is none.
    pub nearest: String,
    /// What it lacks.
    pub missing: Vec<(String, String)>,
    /// The values on offer for the first key that lacks.
    pub offered: Vec<String>,
}

/// How a pool compares with a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The pool.
    pub pool: String,
    /// What a job misses there; nothing where it fits.
    pub missing: Vec<(String, String)>,
    /// The pool's bots.
    pub bots: u32,
    /// The most workers that it may get.
    pub max_workers: u32,
}

/// Why jobs with one requirement wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The reason.
    pub reason: WaitReason,
    /// One or two sentences for a person.
    pub text: String,
    /// What lacks, where nothing fits.
    pub mismatch: Option<Mismatch>,
}

impl WaitReason {
    /// All of them; the place of each is the number that stores keep, so new ones come last.
    pub const ALL: [Self; 10] = [
        Self::NotWaiting,
        Self::BehindOthers,
        Self::ScalingUp,
        Self::PoolAtMaximum,
        Self::PoolNotScaled,
        Self::PoolStopped,
        Self::NoUsableBot,
        Self::NoPoolFits,
        Self::NoBotFits,
        Self::NoScheduler,
    ];

    /// The number that stores keep.
    #[must_use]
    pub fn number(self) -> i16 {
        let place = Self::ALL.iter().position(|reason| *reason == self);
        place.and_then(|place| i16::try_from(place).ok()).unwrap_or_default()
    }

    /// The reason of a number; `None` for one of a newer version.
    #[must_use]
    pub fn of_number(number: i16) -> Option<Self> {
        usize::try_from(number).ok().and_then(|place| Self::ALL.get(place)).copied()
    }

    /// Whether waiting can't end unless somebody does something.
    #[must_use]
    pub const fn is_stuck(self) -> bool {
        !matches!(self, Self::NotWaiting | Self::BehindOthers | Self::ScalingUp | Self::PoolAtMaximum)
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotWaiting => "not_waiting",
            Self::BehindOthers => "behind_others",
            Self::ScalingUp => "scaling_up",
            Self::PoolAtMaximum => "pool_at_maximum",
            Self::PoolNotScaled => "pool_not_scaled",
            Self::PoolStopped => "pool_stopped",
            Self::NoUsableBot => "no_usable_bot",
            Self::NoPoolFits => "no_pool_fits",
            Self::NoBotFits => "no_bot_fits",
            Self::NoScheduler => "no_scheduler",
        }
    }
}

/// Why a job with this requirement would wait now.
#[must_use]
pub fn explain(view: &View, requirement: &Requirement) -> Explanation {
    let fitting = view.fitting(requirement);
    let bots: Vec<_> = view.bots_for(requirement).collect();
    let usable = bots.iter().filter(|bot| bot.is_usable()).count();
    let free: u64 = bots.iter().map(|bot| u64::from(bot.free())).sum();
    if free > 0 {
        return plain(WaitReason::BehindOthers, format!("{free} slots that fit are free: its turn is next."));
    }
    if fitting.is_empty() && bots.is_empty() {
        return unplaceable(view, requirement);
    }
    let names = list(fitting.iter().map(|pool| pool.name.as_str()));
    if let Some(pool) = fitting.iter().find(|pool| can_grow(view, pool)) {
        let (have, most) = (view.bots_of(&pool.name).count(), pool.max_workers);
        let text = format!("Pool {} is being scaled up: it has {have} of at most {most} workers.", pool.name);
        return plain(WaitReason::ScalingUp, text);
    }
    if usable > 0 {
        let at_maximum = |pool: &&Pool| pool.autoscaled && pool.max_workers > 0;
        return match fitting.iter().find(|pool| at_maximum(pool)) {
            Some(pool) => {
                let text = format!(
                    "All {usable} workers that fit are busy, and pool {} has as many as it may ({}).",
                    pool.name, pool.max_workers
                );
                plain(WaitReason::PoolAtMaximum, text)
            }
            None => {
                let text = format!("All {usable} workers that fit are busy with jobs before it.");
                plain(WaitReason::BehindOthers, text)
            }
        };
    }
    if !bots.is_empty() {
        let count = bots.len();
        let text = format!("Every worker that fits ({count}) is draining, lost, unhealthy or leaving.");
        return plain(WaitReason::NoUsableBot, text);
    }
    if fitting.iter().all(|pool| pool.max_workers == 0) {
        return plain(
            WaitReason::PoolStopped,
            format!("{names} fits and is stopped: it may have no workers now."),
        );
    }
    let text = format!("{names} fits, has no workers, and nobody scales it up.");
    plain(WaitReason::PoolNotScaled, text)
}

fn plain(reason: WaitReason, text: String) -> Explanation {
    Explanation { reason, text, mismatch: None }
}

fn can_grow(view: &View, pool: &Pool) -> bool {
    let have = view.bots_of(&pool.name).filter(|bot| bot.is_usable()).count();
    pool.autoscaled && have < pool.max_workers as usize
}

/// Neither a pool nor a bot fits.
fn unplaceable(view: &View, requirement: &Requirement) -> Explanation {
    let mut verdicts = view.verdicts(requirement);
    verdicts.sort_by_key(|verdict| verdict.missing.len());
    if let Some(nearest) = verdicts.into_iter().next() {
        let offered = offered(view, &nearest.missing);
        let text = format!(
            "No worker can run this, because {}; the nearest pool is {}.",
            lacking("no pool", &nearest.missing, &offered),
            nearest.pool
        );
        let mismatch = Mismatch { nearest: nearest.pool, missing: nearest.missing, offered };
        return Explanation { reason: WaitReason::NoPoolFits, text, mismatch: Some(mismatch) };
    }
    let reason = if view.has_pools() { WaitReason::NoPoolFits } else { WaitReason::NoBotFits };
    let bots = view.bots.iter().filter(|bot| ["*", &requirement.pool].contains(&bot.session.pool.as_str()));
    let nearest = bots.map(|bot| requirement.missing(&bot.offer)).min_by_key(Vec::len);
    let missing = nearest.clone().unwrap_or_else(|| requirement.missing(&super::Offer::default()));
    let offered = offered(view, &missing);
    let because = match (reason, &nearest) {
        (WaitReason::NoPoolFits, _) => format!("no pool serves instance {:?}", requirement.pool),
        (_, None) => format!("no worker of instance {:?} is connected", requirement.pool),
        (_, Some(missing)) => lacking("no worker that is connected", missing, &offered),
    };
    let text = format!("No worker can run this, because {because}.");
    Explanation { reason, text, mismatch: Some(Mismatch { nearest: String::new(), missing, offered }) }
}

/// The values on offer, of pools and bots alike, for the first key that lacks.
fn offered(view: &View, missing: &[(String, String)]) -> Vec<String> {
    let Some((key, _)) = missing.first() else { return Vec::new() };
    let pools = view.pools.values().map(super::view::ViewedPool::properties);
    let bots = view.bots.iter().map(|bot| &bot.offer.properties);
    let values = pools.chain(bots).filter_map(|properties| properties.get(key)).flatten();
    values.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn lacking(who: &str, missing: &[(String, String)], offered: &[String]) -> String {
    let Some((key, value)) = missing.first() else { return format!("{who} fits") };
    let values = list(offered.iter().map(String::as_str));
    let mut text = match (key.as_str(), offered.is_empty()) {
        (image::KEY, true) => format!("{who} runs image {value}; no images are on offer"),
        (image::KEY, false) => format!("{who} runs image {value}; images on offer: {values}"),
        (_, true) => format!("{who} has {key}={value}; none has the property {key:?}"),
        (_, false) => format!("{who} has {key}={value}; on offer for {key}: {values}"),
    };
    if missing.len() > 1 {
        let rest = missing.iter().skip(1).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        text.push_str(&format!("; also lacking: {}", rest.join(", ")));
    }
    text
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
