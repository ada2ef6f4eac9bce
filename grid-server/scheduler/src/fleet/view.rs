//! [`View`]: pools, drains and bots as they stood at one moment.

use std::collections::{BTreeMap, BTreeSet};

use grid_core::Timestamp;

use super::drain::Drain;
use super::explain::Verdict;
use super::pool::{Declaration, Offer, Pool, comparable};
use crate::properties::{Match, Properties, Requirement};
use crate::session::{BotStatus, Session};

/// What a store says of the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetRows {
    /// The store's time.
    pub now: Timestamp,
    /// What each owner declared.
    pub declarations: Vec<Declaration>,
    /// Drains that were not ended.
    pub drains: Vec<Drain>,
    /// Sessions, each with the number of leases it holds.
    pub bots: Vec<(Session, u32)>,
    /// By pool, the microsecond of the newest job that came while it had no free slot.
    pub wakeups: BTreeMap<String, u64>,
}

/// A bot with a session.
#[derive(Clone, Debug)]
pub struct FleetBot {
    /// Its session.
    pub session: Session,
    /// Leases that it holds.
    pub leases: u32,
    /// What it has to set against a requirement.
    pub offer: Offer,
    /// What it does.
    pub state: BotState,
}

/// What a bot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BotState {
    /// It holds no lease and takes any that fits.
    Idle,
    /// It holds leases.
    Busy,
    /// It takes no more leases, for it is to leave.
    Draining,
    /// It says that it can't work.
    Unhealthy,
    /// It was not heard of in time.
    Lost,
    /// It announced that it stops, or its host does.
    Terminating,
}

/// A pool and what follows from its declaration.
#[derive(Clone, Debug)]
pub(super) struct ViewedPool {
    pub(super) pool: Pool,
    offer: Offer,
    /// The pools of instances that it serves; none means all.
    serves: BTreeSet<String>,
}

/// Pools, drains and bots at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When it was so, by the store's clock.
    pub now: Timestamp,
    /// What each owner declared.
    pub declarations: Vec<Declaration>,
    /// Drains that were not ended.
    pub drains: Vec<Drain>,
    /// Bots with a session.
    pub bots: Vec<FleetBot>,
    /// By pool, a number that grows when a job comes while it has no free slot.
    pub wakeups: BTreeMap<String, u64>,
    pub(super) pools: BTreeMap<String, ViewedPool>,
}

impl FleetBot {
    /// Slots that could be given work now.
    #[must_use]
    pub fn free(&self) -> u32 {
        if self.is_usable() { self.session.capacity.saturating_sub(self.leases) } else { 0 }
    }

    /// Whether it takes work, now or when it has done what it has.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, BotState::Idle | BotState::Busy)
    }
}

impl View {
    /// The view of these rows. `instance_pool` gives the pool of instances that an instance belongs to.
    #[must_use]
    pub fn new<'a>(rows: FleetRows, instance_pool: impl Fn(&str) -> String + 'a) -> Self {
        let pools = rows.declarations.iter().flat_map(|declaration| &declaration.pools);
        let pools: BTreeMap<String, ViewedPool> = pools
            .map(|pool| {
                let serves = pool.instances.iter().map(|name| instance_pool(name)).collect();
                (pool.name.clone(), ViewedPool { pool: pool.clone(), offer: pool.offer(), serves })
            })
            .collect();
        let bot = |(session, leases): (Session, u32)| {
            let offer = offer(&pools, &session);
            let state = state(&session, leases, rows.now);
            FleetBot { session, leases, offer, state }
        };
        let bots = rows.bots.into_iter().map(bot).collect();
        let (now, wakeups) = (rows.now, rows.wakeups);
        Self { now, declarations: rows.declarations, drains: rows.drains, bots, wakeups, pools }
    }

    /// What a bot has to set against a requirement.
    #[must_use]
    pub fn offer(&self, session: &Session) -> Offer {
        offer(&self.pools, session)
    }

    /// The name of a declared pool; empty where no such pool is declared.
    #[must_use]
    pub fn declared_name<'a>(&self, name: &'a str) -> &'a str {
        if self.pools.contains_key(name) { name } else { "" }
    }

    /// Whether anybody has ever said which pools there are, be it none.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        !self.declarations.is_empty()
    }

    /// Whether any pool is declared.
    #[must_use]
    pub fn has_pools(&self) -> bool {
        !self.pools.is_empty()
    }

    /// The pools that are declared, by name.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values().map(|viewed| &viewed.pool)
    }

    /// The keys that jobs may ask for because a pool serving this pool of instances knows them.
    #[must_use]
    pub fn keys(&self, instance_pool: &str) -> BTreeSet<String> {
        let serving = self.pools.values().filter(|viewed| viewed.serves(instance_pool));
        serving
            .flat_map(|viewed| viewed.offer.properties.keys().chain(&viewed.offer.ignored))
            .cloned()
            .chain(self.has_pools().then(|| super::image::KEY.to_owned()))
            .collect()
    }

    /// How each pool that serves a requirement's instances compares with it, by name.
    #[must_use]
    pub fn verdicts(&self, requirement: &Requirement) -> Vec<Verdict> {
        let serving = self.pools.values().filter(|viewed| viewed.serves(&requirement.pool));
        serving
            .map(|viewed| Verdict {
                pool: viewed.pool.name.clone(),
                missing: requirement.missing(&viewed.offer),
                bots: u32::try_from(self.bots_of(&viewed.pool.name).count()).unwrap_or(u32::MAX),
                max_workers: viewed.pool.max_workers,
            })
            .collect()
    }

    /// The pools that fit, the one that takes the job first: by priority, those that are stopped last.
    #[must_use]
    pub fn fitting(&self, requirement: &Requirement) -> Vec<&Pool> {
        let serving = self.pools.values().filter(|viewed| viewed.serves(&requirement.pool));
        let fits = |viewed: &&ViewedPool| requirement.missing(&viewed.offer).is_empty();
        let mut fitting: Vec<&Pool> = serving.filter(fits).map(|viewed| &viewed.pool).collect();
        fitting.sort_by_key(|pool| (pool.max_workers == 0, std::cmp::Reverse(pool.priority)));
        fitting
    }

    /// The pool that a job counts for. Pools of equal rank share, by the job's own number.
    #[must_use]
    pub fn place(&self, requirement: &Requirement, salt: u128) -> Option<&Pool> {
        let fitting = self.fitting(requirement);
        let rank = |pool: &Pool| (pool.max_workers == 0, pool.priority);
        let best = rank(fitting.first()?);
        let equal: Vec<&Pool> = fitting.into_iter().filter(|pool| rank(pool) == best).collect();
        let index = usize::try_from(salt % equal.len() as u128).unwrap_or(0);
        equal.get(index).copied()
    }

    /// The bots that can run a job with this requirement, usable or not.
    pub fn bots_for<'a>(&'a self, requirement: &'a Requirement) -> impl Iterator<Item = &'a FleetBot> {
        self.bots.iter().filter(|bot| requirement.matches(&bot.session.pool, &bot.offer) > Match::No)
    }

    /// The bots of a declared pool, usable or not.
    pub fn bots_of(&self, pool: &str) -> impl Iterator<Item = &FleetBot> {
        self.bots.iter().filter(move |bot| bot.session.worker_pool == pool)
    }
}

impl ViewedPool {
    pub(super) const fn properties(&self) -> &Properties {
        &self.offer.properties
    }

    fn serves(&self, instance_pool: &str) -> bool {
        self.serves.is_empty() || self.serves.contains(instance_pool)
    }
}

/// What the bot says it has, and what is known of its pool.
fn offer(pools: &BTreeMap<String, ViewedPool>, session: &Session) -> Offer {
    let mut offer = Offer { properties: comparable(&session.properties), ..Offer::default() };
    if let Some(viewed) = pools.get(&session.worker_pool) {
        for (key, values) in &viewed.offer.properties {
            offer.properties.entry(key.clone()).or_default().extend(values.iter().cloned());
        }
        offer.ignored.clone_from(&viewed.offer.ignored);
    }
    offer
}

fn state(session: &Session, leases: u32, now: Timestamp) -> BotState {
    match session.status {
        _ if session.expires_at < now => BotState::Lost,
        BotStatus::HostRebooting | BotStatus::Terminating => BotState::Terminating,
        _ if session.drain_until.is_some() => BotState::Draining,
        BotStatus::Unhealthy => BotState::Unhealthy,
        BotStatus::Ok if leases > 0 => BotState::Busy,
        BotStatus::Ok => BotState::Idle,
    }
}
