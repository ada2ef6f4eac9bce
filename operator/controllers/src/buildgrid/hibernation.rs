//! Whether a grid sleeps: its servers leave after its workers, so that what these still do is not lost, and in the end without
//! them, should they not be able to.

use std::time::Duration;

use grid_operator_api::{BuildGrid, BuildGridStatus, WAKE_ANNOTATION, WorkerPool};
use grid_operator_apply::{Status, Wanted};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::trouble::Trouble;

/// The condition that tells of it: true of one that sleeps, unknown while its workers leave, false where it is awake. Each has the
/// time since when it is so.
const HIBERNATED: &str = "Hibernated";
const LEAVING: &str = "WorkersLeaving";
/// How long servers wait for workers beyond the grace that these have.
const PATIENCE: Duration = Duration::from_secs(300);

/// What becomes of a grid that is to hibernate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sleep {
    /// It is to hibernate, and nobody wakes it; its workers may still be leaving.
    pub(crate) is_wanted: bool,
    /// No pod of it is to run.
    pub(crate) has_begun: bool,
    /// Pools that have pods all the same.
    staying: Vec<String>,
    /// When it is another matter though nothing changes.
    again: Option<Duration>,
}

impl Sleep {
    /// What becomes of `grid`, whose pools are `pools`.
    ///
    /// # Errors
    /// The annotation that wakes it is no time.
    pub(crate) fn of(grid: &BuildGrid, pools: &[WorkerPool], now: Timestamp) -> Result<Self, Trouble> {
        let until = awake_until(grid)?;
        if !is_asleep(grid, now)? {
            let again = until.filter(|_| grid.spec.hibernate).and_then(|until| span(now, until));
            return Ok(Self { again, ..Self::default() });
        }
        let staying: Vec<String> =
            pools.iter().filter(|pool| has_pods(pool)).map(ResourceExt::name_any).collect();
        let grace = pools.iter().map(|pool| pool.spec.grace_period_seconds).max().unwrap_or_default();
        let patience = PATIENCE + Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        let left = match said(grid) {
            Some(("True", _)) => Duration::ZERO,
            Some(("Unknown", since)) => patience.saturating_sub(span(since, now).unwrap_or_default()),
            // It was awake until now.
            _ => patience,
        };
        let has_begun = staying.is_empty() || left.is_zero();
        Ok(Self { is_wanted: true, has_begun, staying, again: (!has_begun).then_some(left) })
    }

    /// When to look at the grid again, though nothing about it changed.
    pub(crate) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// What the status of a grid that is to hibernate says of it.
    pub(crate) fn condition(&self) -> Wanted {
        let pools = self.staying.join(", ");
        match (self.has_begun, self.is_wanted) {
            (true, _) if self.staying.is_empty() => {
                Wanted::new(HIBERNATED, true, "Asked", "no pod runs, and all data is kept")
            }
            (true, _) => {
                let message = format!(
                    "no server runs, and all data is kept; the pools {pools} have pods all the same: their conditions say why"
                );
                Wanted::new(HIBERNATED, true, "WorkersStayed", message)
            }
            (false, true) => {
                let message = format!(
                    "the servers wait for the workers of the pools {pools}, until five minutes after the longest gracePeriodSeconds: the pools' conditions say what keeps these"
                );
                Wanted::new(HIBERNATED, Status::Unknown, LEAVING, message)
            }
            (false, false) => {
                let message = format!("the annotation {WAKE_ANNOTATION} keeps it awake for a while");
                Wanted::new(HIBERNATED, false, "Awake", message)
            }
        }
    }
}

/// What was said last, while something is wrong with the grid: then its servers stay as they are.
pub(crate) fn still(old: &BuildGridStatus) -> Option<Wanted> {
    let last = old.conditions.iter().find(|condition| condition.type_ == HIBERNATED)?;
    let (status, reason) = match last.status.as_str() {
        "True" => (Status::True, "Asked"),
        "Unknown" => (Status::Unknown, LEAVING),
        _ => (Status::False, "Awake"),
    };
    Some(Wanted::new(HIBERNATED, status, reason, &last.message))
}

/// Whether a grid is to hibernate, and nobody wakes it.
///
/// # Errors
/// The annotation that wakes it is no time.
pub(crate) fn is_asleep(grid: &BuildGrid, now: Timestamp) -> Result<bool, Trouble> {
    Ok(grid.spec.hibernate && awake_until(grid)?.is_none_or(|until| until <= now))
}

/// Pods that the operator is to end: those of a pool that is paused are none.
fn has_pods(pool: &WorkerPool) -> bool {
    !pool.spec.paused && pool.status.as_ref().is_some_and(|status| status.replicas != 0)
}

/// Whether the status tells that it sleeps, and since when it tells so.
fn said(grid: &BuildGrid) -> Option<(&str, Timestamp)> {
    let conditions = grid.status.iter().flat_map(|status| &status.conditions);
    let said = conditions.into_iter().find(|condition| condition.type_ == HIBERNATED)?;
    Some((said.status.as_str(), said.last_transition_time.0))
}

/// The time until which a grid that hibernates is awake.
fn awake_until(grid: &BuildGrid) -> Result<Option<Timestamp>, Trouble> {
    let Some(text) = grid.annotations().get(WAKE_ANNOTATION) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Trouble::new(
            "Invalid",
            format!("the annotation {WAKE_ANNOTATION} is {text:?}: give a time like 2030-01-31T18:00:00Z"),
        )
    })
}

fn span(from: Timestamp, to: Timestamp) -> Option<Duration> {
    Duration::try_from(to.duration_since(from)).ok().filter(|span| !span.is_zero())
}
