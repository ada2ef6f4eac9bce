//! [`Wait`]: why jobs that ask for one thing waited, from one moment to another; kept after they have gone.
//!
//! Replicas look every few seconds at what waits, and [`note`] makes spans of what they see: one goes on as long as the
//! reason stays the same. A wait that ends between two looks may leave no span. Nothing decides by them. The look itself
//! is [`crate::service`]'s, why a job waits now is [`super::explain`]'s.

use std::time::Duration;

use grid_core::Timestamp;
use uuid::Uuid;

use super::explain::{Explanation, WaitReason};
use crate::history::Run;
use crate::job::{Job, JobState};
use crate::properties::RequirementId;

/// The longest time between two looks at what waits of which the second goes on with what the first one saw.
pub const GAP: Duration = Duration::from_secs(20);
/// What another replica wrote less than this ago is not written again.
const FRESH: Duration = Duration::from_secs(2);
/// Stands for every requirement: what held up all jobs.
pub const EVERY: RequirementId = RequirementId(Uuid::nil());

/// Why jobs waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What they ask for; [`EVERY`] for all.
    pub requirement: RequirementId,
    /// When this was seen first.
    pub since: Timestamp,
    /// When it was seen last.
    pub until: Timestamp,
    /// The reason.
    pub reason: WaitReason,
    /// One or two sentences for a person, as of the last look.
    pub text: String,
}

/// What a replica saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What waits, and why.
    pub waiting: Vec<(RequirementId, Explanation)>,
    /// How long this replica saw nothing before, where that is longer than it should be.
    pub blind: Option<Duration>,
}

/// The spans that are to be written for what is seen `now`; `latest` holds those that ended within [`GAP`] before.
#[must_use]
pub fn note(latest: &[Wait], seen: &Seen, now: Timestamp) -> Vec<Wait> {
    let last = |id: RequirementId| {
        let own = latest.iter().filter(move |wait| wait.requirement == id);
        own.max_by_key(|wait| (wait.until, wait.since))
    };
    let mut noted: Vec<Wait> = seen
        .waiting
        .iter()
        .filter(|(_, why)| why.reason != WaitReason::NotWaiting)
        .filter_map(|(id, why)| match last(*id) {
            Some(last) if last.reason == why.reason => (now.since(last.until) >= FRESH).then(|| Wait {
                until: now,
                text: why.text.clone(),
                ..last.clone()
            }),
            other => Some(Wait {
                requirement: *id,
                // Between two looks it was one or the other.
                since: other.map_or(now, |last| last.until),
                until: now,
                reason: why.reason,
                text: why.text.clone(),
            }),
        })
        .collect();
    // Where another replica has looked meanwhile, jobs went on.
    if let Some(blind) = seen.blind.filter(|_| latest.is_empty()) {
        noted.push(Wait {
            requirement: EVERY,
            since: now.before(blind),
            until: now,
            reason: WaitReason::NoScheduler,
            text: format!("For {} s no server reached the database.", blind.as_secs()),
        });
    }
    noted
}

/// When a job waited: before its first lease, between two, and until `now` where it waits still. `runs` are its leases that
/// ended.
#[must_use]
pub fn windows(state: &JobState, runs: &[Run], now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let mut runs: Vec<&Run> = runs.iter().collect();
    runs.sort_by_key(|run| run.attempt);
    let begun = runs.iter().map(|run| run.started_at);
    // The newest lease has no run before it ends, and none after the history has forgotten it.
    let has_ended = runs.last().is_some_and(|run| run.attempt >= state.attempts);
    let last = state.started_at.filter(|_| !has_ended).or(state.completed_at).unwrap_or(now);
    let from = std::iter::once(state.queued_at).chain(runs.iter().map(|run| run.ended_at));
    from.zip(begun.chain([last])).filter(|(from, to)| from < to).collect()
}

/// What of these spans falls into these times, in their order.
#[must_use]
pub fn within(waits: &[Wait], windows: &[(Timestamp, Timestamp)]) -> Vec<Wait> {
    let clip = |wait: &Wait, (from, to): (Timestamp, Timestamp)| {
        let (since, until) = (wait.since.max(from), wait.until.min(to));
        (since <= until).then(|| Wait { since, until, ..wait.clone() })
    };
    let mut found: Vec<Wait> =
        windows.iter().flat_map(|window| waits.iter().filter_map(move |wait| clip(wait, *window))).collect();
    found.sort_by_key(|wait| (wait.since, wait.until));
    found
}

/// Which spans are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitQuery {
    /// Of jobs that ask for this; those of [`EVERY`] are given too.
    pub requirement: RequirementId,
    /// That ended no earlier.
    pub since: Timestamp,
    /// That began no later.
    pub until: Timestamp,
    /// At most so many, the newest.
    pub limit: u32,
}

impl WaitQuery {
    /// What may explain the waits of a job.
    #[must_use]
    pub const fn of(job: &Job, now: Timestamp) -> Self {
        Self { requirement: job.spec.requirement, since: job.state.queued_at, until: now, limit: 1_000 }
    }

    /// Whether a span is asked for.
    #[must_use]
    pub fn matches(&self, wait: &Wait) -> bool {
        [self.requirement, EVERY].contains(&wait.requirement)
            && wait.until >= self.since
            && wait.since <= self.until
    }
}

#[cfg(test)]
mod tests;
