//! A fleet in memory for the tests of this module.

use grid_core::Timestamp;
use uuid::Uuid;

use super::pool::{Declaration, Pool};
use super::view::{FleetRows, View};
use crate::ids::{ReplicaId, SessionId};
use crate::properties::{Properties, Requirement};
use crate::session::{BotStatus, Session};

pub(super) const NOW: Timestamp = Timestamp(1_000_000_000);

pub(super) fn properties(pairs: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::new();
    for (key, value) in pairs {
        properties.entry((*key).to_owned()).or_default().insert((*value).to_owned());
    }
    properties
}

pub(super) fn requirement(pairs: &[(&str, &str)]) -> Requirement {
    Requirement { must: properties(pairs), ..Requirement::default() }
}

/// An autoscaled pool of at most ten workers of two slots.
pub(super) fn pool(name: &str, pairs: &[(&str, &str)]) -> Pool {
    Pool {
        name: name.to_owned(),
        properties: properties(pairs),
        max_workers: 10,
        concurrency: 2,
        autoscaled: true,
        ..Pool::default()
    }
}

/// A healthy bot of a pool with two slots.
pub(super) fn bot(name: &str, worker_pool: &str, pairs: &[(&str, &str)]) -> Session {
    Session {
        id: SessionId(Uuid::from_u128(name.bytes().fold(0, |n, b| n * 256 + u128::from(b)))),
        bot_id: name.to_owned(),
        instance: String::new(),
        pool: String::new(),
        properties: properties(pairs),
        capacity: 2,
        priority: 0,
        status: BotStatus::Ok,
        worker_pool: worker_pool.to_owned(),
        node: String::new(),
        version_of_bot: String::new(),
        drain_until: None,
        drain_told: false,
        last_seen: NOW,
        idle_since: None,
        calls: 0,
        faults: 0,
        owner: ReplicaId(Uuid::nil()),
        version: 1,
        expires_at: Timestamp(NOW.0 + 1),
    }
}

pub(super) fn view(pools: Vec<Pool>, bots: Vec<(Session, u32)>) -> View {
    let declarations = vec![Declaration { owner: "o".into(), pools, ..Declaration::default() }];
    let rows = FleetRows { now: NOW, declarations, bots, ..FleetRows::default() };
    View::new(rows, str::to_owned)
}
