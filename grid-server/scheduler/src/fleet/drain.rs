//! [`Drain`]: a bot, a pool or a node that gets no more work because it is to leave.

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::view::FleetBot;
use crate::session::Session;

/// What drains.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DrainTarget {
    /// A bot, by its own name.
    Bot(String),
    /// Every bot of a pool, those that join later too.
    Pool(String),
    /// Every bot on a node, those that join later too.
    Node(String),
}

/// Why it drains; for people, records and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainReason {
    /// Not said.
    #[default]
    Unspecified,
    /// There are more workers than work.
    ScaleDown,
    /// It is replaced by a newer one.
    Upgrade,
    /// Its node goes.
    Node,
    /// Its machine is taken away.
    SpotNotice,
    /// It fails by itself.
    Faulty,
    /// A person wants it.
    Manual,
}

/// A drain that was not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// What drains.
    pub target: DrainTarget,
    /// Why.
    pub reason: DrainReason,
    /// Since when.
    pub requested_at: Timestamp,
    /// When leases that still run are given back.
    pub deadline: Timestamp,
    /// How many were.
    pub returned: u64,
}

/// How far a drain got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainState {
    /// A bot has not been told yet.
    Requested,
    /// Every bot knows; leases still run.
    Acknowledged,
    /// No lease is left, and every result is durable.
    Drained,
}

/// A drain and how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainProgress {
    /// The drain.
    pub drain: Drain,
    /// How far it got.
    pub state: DrainState,
    /// Bots that it covers now.
    pub bots: u32,
    /// Those of them that were told.
    pub acknowledged: u32,
    /// Leases that they hold.
    pub running: u64,
}

impl DrainTarget {
    /// Whether it covers a bot.
    #[must_use]
    pub fn covers(&self, session: &Session) -> bool {
        match self {
            Self::Bot(name) => *name == session.bot_id,
            Self::Pool(name) => *name == session.worker_pool,
            Self::Node(name) => *name == session.node,
        }
    }
}

impl Drain {
    /// How far it got, given every bot with a session.
    #[must_use]
    pub fn progress(&self, bots: &[FleetBot]) -> DrainProgress {
        let covered: Vec<&FleetBot> = bots.iter().filter(|bot| self.target.covers(&bot.session)).collect();
        let acknowledged = covered.iter().filter(|bot| bot.session.drain_told).count();
        let running: u64 = covered.iter().map(|bot| u64::from(bot.leases)).sum();
        let state = if acknowledged < covered.len() {
            DrainState::Requested
        } else if running > 0 {
            DrainState::Acknowledged
        } else {
            DrainState::Drained
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (bots, acknowledged) = (count(covered.len()), count(acknowledged));
        DrainProgress { drain: self.clone(), state, bots, acknowledged, running }
    }
}

/// The earliest deadline among the drains that cover a bot; `None` where none does.
#[must_use]
pub fn deadline<'a>(drains: impl IntoIterator<Item = &'a Drain>, session: &Session) -> Option<Timestamp> {
    drains.into_iter().filter(|drain| drain.target.covers(session)).map(|drain| drain.deadline).min()
}
