//! The budget of moves that nobody asked for: which resource may replace its pods now for nothing but newer templates.
//!
//! Every workload says by which revision of the templates it was made. A newer operator leaves it as it is until it is
//! the resource's turn: few at a time, a pause after each, inside its maintenance windows. A resource that doesn't
//! come to rest keeps its turn, so that what breaks one breaks no other. All of it is in memory: a new leader begins
//! with a pause, and goes on first with what was begun.

use std::collections::BTreeMap;
use std::time::Duration;

use grid_operator_api::MaintenanceSpec;
use grid_operator_apply::Wanted;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

/// A turn that nobody asked about for so long is over: its resource is paused or gone.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// How soon to ask again where another one's end is waited for.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// How fast resources are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Resources that are moved at a time.
    pub at_once: usize,
    /// Time between the end of one move and the next.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: 1, pause: Duration::from_secs(60) }
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Rollouts {
    pace: Pace,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Resources that are being moved, by uid: their names, and when they last asked.
    moving: BTreeMap<String, (String, Timestamp)>,
    /// The end of the last move, or the beginning of this operator.
    last: Option<Timestamp>,
    /// By grid: the pool whose workers are being replaced by another version, and when it last asked.
    pools: BTreeMap<String, (String, Timestamp)>,
}

/// The answer to who asks for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It may replace its pods.
    Go,
    /// Not yet: why, and when to ask again.
    Wait(String, Duration),
}

/// The condition of a resource that waits for its turn.
pub(crate) const ROLLOUT_PENDING: &str = "RolloutPending";

impl Turn {
    /// What is said of a wait.
    pub(crate) fn pending(&self) -> Option<Wanted> {
        let Self::Wait(why, _) = self else { return None };
        let message = format!(
            "its pods were made by an earlier operator, and are replaced without anybody's doing: {why}; a change of the resource replaces them at once"
        );
        Some(Wanted::new(ROLLOUT_PENDING, true, "Waiting", message))
    }

    /// When to ask again.
    pub(crate) fn again(&self) -> Option<Duration> {
        match self {
            Self::Go => None,
            Self::Wait(_, again) => Some(*again),
        }
    }
}

/// Who asks for a turn.
pub(crate) struct Mover<'a> {
    pub(crate) uid: &'a str,
    /// As people know it.
    pub(crate) name: String,
    /// Some of its workloads were moved already.
    pub(crate) has_begun: bool,
    pub(crate) maintenance: Option<&'a MaintenanceSpec>,
}

impl Rollouts {
    /// Nobody has moved yet.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, state: Mutex::default() }
    }

    /// Asks for a turn; once given it is kept until [`Rollouts::settled`].
    pub(crate) fn turn(&self, mover: &Mover<'_>, now: Timestamp) -> Turn {
        let mut state = self.state.lock();
        let last = *state.last.get_or_insert(now);
        state.moving.retain(|_, (_, asked)| elapsed(*asked, now) < FORGOTTEN);
        if mover.has_begun || state.moving.contains_key(mover.uid) {
            state.moving.insert(mover.uid.to_owned(), (mover.name.clone(), now));
            return Turn::Go;
        }
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let closed = mover.maintenance.map_or(Duration::ZERO, |windows| windows.opens_in(seconds));
        if !closed.is_zero() {
            return Turn::Wait("it waits for its maintenance window".to_owned(), closed);
        }
        if state.moving.len() >= self.pace.at_once {
            let names: Vec<&str> = state.moving.values().map(|(name, _)| name.as_str()).collect();
            return Turn::Wait(format!("it waits until {} came to rest", names.join(", ")), ASK_AGAIN);
        }
        let pause = self.pace.pause.saturating_sub(elapsed(last, now));
        if !pause.is_zero() {
            return Turn::Wait("it waits its turn".to_owned(), pause);
        }
        state.moving.insert(mover.uid.to_owned(), (mover.name.clone(), now));
        Turn::Go
    }

    /// A resource is at rest, and made by the newest templates.
    pub(crate) fn settled(&self, uid: &str, now: Timestamp) {
        let mut state = self.state.lock();
        if state.moving.remove(uid).is_some() {
            state.last = Some(now);
        }
    }

    /// Whether a pool may take another version of its grid's: one pool of a grid at a time.
    pub(crate) fn pool_may_follow(&self, grid: &str, uid: &str, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        let holder = state.pools.get(grid).filter(|(_, asked)| elapsed(*asked, now) < FORGOTTEN);
        if holder.is_some_and(|(holder, _)| holder != uid) {
            return false;
        }
        state.pools.insert(grid.to_owned(), (uid.to_owned(), now));
        true
    }

    /// A pool is at rest: the next one may follow.
    pub(crate) fn pool_settled(&self, grid: &str, uid: &str) {
        let mut state = self.state.lock();
        if state.pools.get(grid).is_some_and(|(holder, _)| holder == uid) {
            state.pools.remove(grid);
        }
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use grid_operator_api::MaintenanceWindow;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_571_200 + second).unwrap()
    }

    fn mover(uid: &str) -> Mover<'_> {
        Mover { uid, name: format!("default/{uid}"), has_begun: false, maintenance: None }
    }

    fn goes(rollouts: &Rollouts, uid: &str, second: i64) -> bool {
        rollouts.turn(&mover(uid), at(second)) == Turn::Go
    }

    #[test]
    fn one_at_a_time_with_a_pause_before_each() {
        let rollouts = Rollouts::new(Pace::default());
        assert!(!goes(&rollouts, "a", 0), "an operator that has just begun looks first");
        assert!(goes(&rollouts, "a", 60) && goes(&rollouts, "a", 61), "a turn is kept");
        let Turn::Wait(why, _) = rollouts.turn(&mover("b"), at(200)) else { panic!() };
        assert!(why.contains("default/a"), "{why}");
        rollouts.settled("a", at(210));
        assert!(!goes(&rollouts, "b", 260) && goes(&rollouts, "b", 270));
    }

    #[test]
    fn what_was_begun_goes_on_and_what_is_forgotten_holds_nobody_up() {
        let rollouts = Rollouts::new(Pace { pause: Duration::ZERO, ..Pace::default() });
        let begun = Mover { has_begun: true, ..mover("a") };
        assert_eq!(rollouts.turn(&begun, at(0)), Turn::Go);
        assert!(!goes(&rollouts, "b", 800));
        assert!(goes(&rollouts, "b", 901));
    }

    #[test]
    fn nothing_begins_outside_of_a_window() {
        let rollouts = Rollouts::new(Pace { pause: Duration::ZERO, ..Pace::default() });
        let window = MaintenanceWindow { days: vec![], start: "02:00".into(), duration: "5m".into() };
        let windows = MaintenanceSpec { windows: vec![window] };
        let asks = |second| rollouts.turn(&Mover { maintenance: Some(&windows), ..mover("a") }, at(second));
        assert_eq!(
            asks(0),
            Turn::Wait("it waits for its maintenance window".into(), Duration::from_secs(7_200))
        );
        assert_eq!(asks(7_200), Turn::Go);
        assert_eq!(asks(7_800), Turn::Go, "what has begun in it is finished");
    }

    #[test]
    fn pools_of_one_grid_follow_one_after_the_other() {
        let rollouts = Rollouts::default();
        assert!(rollouts.pool_may_follow("default/demo", "a", at(0)));
        assert!(!rollouts.pool_may_follow("default/demo", "b", at(1)));
        assert!(rollouts.pool_may_follow("default/other", "b", at(1)));
        rollouts.pool_settled("default/demo", "b");
        assert!(
            !rollouts.pool_may_follow("default/demo", "b", at(2)),
            "only the one whose turn it is ends it"
        );
        rollouts.pool_settled("default/demo", "a");
        assert!(rollouts.pool_may_follow("default/demo", "b", at(3)));
    }
}
