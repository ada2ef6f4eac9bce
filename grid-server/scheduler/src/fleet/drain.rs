//! [`Drain`]: a bot, a pool or a node that is to be left alone, and then left.

use serde::{Deserialize, Serialize};

use crate::session::Session;

/// What drains.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// One bot, by its own name.
    Bot(String),
    /// A pool, with the bots that join it later.
    Pool(String),
    /// A node, with the bots that start there later.
    Node(String),
}

/// Why something drains: the number of the Fleet protocol's `DrainReason`.
pub type DrainReason = i32;

/// A drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// What drains.
    pub target: Target,
    /// Why.
    pub reason: DrainReason,
    /// Since when, in microseconds since the Unix epoch.
    pub requested_at: i64,
    /// When running leases are given back, likewise.
    pub deadline: i64,
    /// Leases that were given back at the deadline.
    pub returned: u64,
}

impl Target {
    /// The name of the drain's record.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Bot(name) => format!("bot:{name}"),
            Self::Pool(name) => format!("pool:{name}"),
            Self::Node(name) => format!("node:{name}"),
        }
    }

    /// Whether it covers a bot.
    #[must_use]
    pub fn covers(&self, session: &Session) -> bool {
        match self {
            Self::Bot(name) => session.bot_id == *name,
            Self::Pool(name) => !name.is_empty() && session.worker_pool == *name,
            Self::Node(name) => !name.is_empty() && session.node == *name,
        }
    }
}
