//! [`Counts`]: jobs, bots, shares and connections at one moment, by what metrics tell them apart. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::Queue;
use super::options::SchedulerOptions;
use crate::fleet::demand::Demand;
use crate::fleet::{FleetBot, View};
use crate::ids::ReplicaId;
use crate::properties::Requirement;
use crate::quota::Share;
use crate::session::BotStatus;
use crate::store::Depth;

/// An instance and a label: the declared pool, or what the property set calls the platform; empty for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The instance; one that shares its bots with others is told as the first of them.
    pub instance: String,
    /// The label.
    pub label: String,
}

/// Jobs of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// They wait.
    pub queued: u64,
    /// They run.
    pub executing: u64,
}

/// Bots of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bots {
    /// How many.
    pub bots: u64,
    /// Their slots.
    pub slots: u64,
    /// Those that hold no lease, and can be given one as far as the bots' status says so.
    pub free: u64,
}

impl Bots {
    fn add(&mut self, bot: &FleetBot) {
        self.bots += 1;
        self.slots += u64::from(bot.session.capacity);
        self.free += u64::from(match bot.session.status {
            BotStatus::Ok => bot.free(),
            _ => bot.session.capacity.saturating_sub(bot.leases),
        });
    }
}

/// An instance's share of a cohort, and what the cohort's bots that take work could hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortShare {
    /// The share.
    pub share: Share,
    /// The bots.
    pub bots: Bots,
    /// Leases of other instances beyond what those are due: they can be taken back.
    pub others_beyond: u64,
}

impl CohortShare {
    /// How many leases the instance is due and could not get, whatever is taken back.
    #[must_use]
    pub fn gap(&self) -> u64 {
        u64::from(self.share.lacks()).saturating_sub(self.bots.free).saturating_sub(self.others_beyond)
    }

    /// How many leases it holds beyond what it is due.
    #[must_use]
    pub fn beyond(&self) -> u64 {
        beyond(&self.share)
    }
}

/// Everything that is counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// How many jobs wait and run.
    pub depths: Vec<Depth>,
    /// The workers that they want.
    pub demand: Demand,
    /// Jobs by the first pool that fits, or their platform's label.
    pub jobs: BTreeMap<Kind, Jobs>,
    /// Bots by what they say of themselves, and by the label of everything that they can run; under the empty label each
    /// counts once.
    pub bots: BTreeMap<(Kind, BotStatus), Bots>,
    /// Shares of cohorts.
    pub shares: Vec<CohortShare>,
    /// Who watches operations on this replica, by instance.
    pub watchers: BTreeMap<String, u64>,
    /// The bots that this replica serves, by instance.
    pub served: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn new(
        queue: Queue,
        shares: Vec<Share>,
        options: &SchedulerOptions,
        replica: ReplicaId,
        watchers: BTreeMap<String, u64>,
    ) -> Self {
        let Queue { view, depths, requirements, demand } = queue;
        let mut jobs: BTreeMap<Kind, Jobs> = BTreeMap::new();
        for depth in &depths {
            let Some(requirement) = requirements.get(&depth.requirement) else { continue };
            let of = jobs.entry(kind(&view, requirement)).or_default();
            of.queued += depth.queued;
            of.executing += depth.executing;
        }
        let mut bots: BTreeMap<(Kind, BotStatus), Bots> = BTreeMap::new();
        let mut served: BTreeMap<String, u64> = BTreeMap::new();
        for bot in &view.bots {
            let instance = &bot.session.instance;
            for label in labels(&view, options, bot) {
                let kind = Kind { instance: instance.clone(), label };
                bots.entry((kind, bot.session.status)).or_default().add(bot);
            }
            if bot.session.owner == replica {
                *served.entry(instance.clone()).or_default() += 1;
            }
        }
        let shares = cohort_shares(&view, shares, options);
        Self { depths, demand, jobs, bots, shares, watchers, served }
    }
}

fn kind(view: &View, requirement: &Requirement) -> Kind {
    let pool = view.fitting(requirement).first().map(|pool| pool.name.clone());
    Kind { instance: requirement.pool.clone(), label: pool.unwrap_or_else(|| requirement.label.clone()) }
}

/// The empty label, and those of what a bot can run.
fn labels(view: &View, options: &SchedulerOptions, bot: &FleetBot) -> BTreeSet<String> {
    let session = &bot.session;
    let mut labels = match view.declared_name(&session.worker_pool) {
        "" => options.property_set.bot_labels(&session.instance, &session.properties),
        pool => BTreeSet::from([pool.to_owned()]),
    };
    labels.insert(String::new());
    labels
}

fn beyond(share: &Share) -> u64 {
    u64::from(share.used.saturating_sub(share.quota.min))
}

fn cohort_shares(view: &View, shares: Vec<Share>, options: &SchedulerOptions) -> Vec<CohortShare> {
    if shares.is_empty() {
        return Vec::new();
    }
    let mut cohorts: BTreeMap<&str, Bots> = BTreeMap::new();
    for bot in view.bots.iter().filter(|bot| bot.session.status == BotStatus::Ok) {
        cohorts.entry(options.cohort(&bot.session)).or_default().add(bot);
    }
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for share in &shares {
        *all.entry(share.quota.cohort.clone()).or_default() += beyond(share);
    }
    let with_bots = |share: Share| {
        let bots = cohorts.get(share.quota.cohort.as_str()).copied().unwrap_or_default();
        let all = all.get(&share.quota.cohort).copied().unwrap_or_default();
        CohortShare { others_beyond: all.saturating_sub(beyond(&share)), share, bots }
    };
    shares.into_iter().map(with_bots).collect()
}
