//! [`Plan`]: which of the waiting jobs goes to which of the free bots. Pure; it neither reads nor writes rows.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::fleet::Offer;
use crate::job::Job;
use crate::properties::{Match, Requirement, RequirementId};
use crate::quota::Ledger;
use crate::session::Session;

/// A bot with room.
#[derive(Clone, Debug)]
pub struct Slots {
    /// The bot's session.
    pub session: Session,
    /// What it has to set against a requirement.
    pub offer: Offer,
    /// How many more leases it takes.
    pub free: u32,
    /// What it ran last, newest first.
    pub localities: Vec<String>,
    /// The cohort that it is in; empty for none.
    pub cohort: String,
}

/// Which jobs a bot is looked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Those of instances that have fewer leases than they are due, and only among the bots of such cohorts.
    Due,
    /// All that their quotas admit.
    Admitted,
}

/// Jobs are placed one by one, in the queue's order.
///
/// Among the bots that can run a job the choice goes to one that has what the job prefers, then to the higher
/// bot priority, to one that ran jobs with the same locality hint, to the one with most room, and at last to
/// the one that has waited longest, as `slots` are ordered.
#[derive(Debug)]
pub struct Plan<'a> {
    slots: &'a [Slots],
    free: Vec<u32>,
    fits: Fits<'a>,
    ledger: Ledger,
}

impl<'a> Plan<'a> {
    /// A plan for these bots, within these quotas.
    #[must_use]
    pub fn new(
        slots: &'a [Slots],
        requirements: &'a HashMap<RequirementId, Requirement>,
        ledger: Ledger,
    ) -> Self {
        let free = slots.iter().map(|s| s.free).collect();
        Self { slots, free, fits: Fits { slots, requirements, known: HashMap::new() }, ledger }
    }

    /// The bot that gets this job, if any.
    pub fn place(&mut self, job: &Job, rule: Rule) -> Option<&'a Slots> {
        let (slots, free, ledger) = (self.slots, &self.free, &self.ledger);
        let instance = job.spec.instance.as_str();
        let may = |index: usize| {
            let cohort = slots[index].cohort.as_str();
            free[index] > 0
                && match rule {
                    Rule::Due => ledger.owes(cohort, instance),
                    Rule::Admitted => ledger.admits(cohort, instance),
                }
        };
        let rank = |&(index, fit): &(usize, Match)| {
            let slot = &slots[index];
            let local = !job.spec.locality.is_empty() && slot.localities.contains(&job.spec.locality);
            // Greatest wins, and the last of equals: turn the index round for the first.
            (fit, slot.session.priority, local, free[index], usize::MAX - index)
        };
        let candidates = self.fits.of(job.spec.requirement);
        let best = candidates.iter().filter(|(index, _)| may(*index)).max_by_key(|c| rank(c)).copied();
        best.map(|(index, _)| {
            self.free[index] -= 1;
            self.ledger.take(&slots[index].cohort, instance);
            &slots[index]
        })
    }

    /// The instances that are due a lease of a bot which could run jobs with this requirement.
    pub fn due(&mut self, requirement: RequirementId) -> Vec<String> {
        let due: BTreeSet<String> = self
            .cohorts(requirement)
            .into_iter()
            .flat_map(|cohort| self.ledger.owed(cohort).map(|(instance, _)| instance.to_owned()))
            .collect();
        due.into_iter().collect()
    }

    /// The instances that may get none of the bots which could run jobs with this requirement.
    pub fn barred(&mut self, requirement: RequirementId) -> Vec<String> {
        let mut cohorts = self.cohorts(requirement).into_iter();
        let Some(first) = cohorts.next() else { return Vec::new() };
        let mut barred: BTreeSet<&str> = self.ledger.barred(first).collect();
        for cohort in cohorts {
            let also: BTreeSet<&str> = self.ledger.barred(cohort).collect();
            barred.retain(|instance| also.contains(instance));
        }
        barred.into_iter().map(str::to_owned).collect()
    }

    /// The cohorts of the bots with room that fit a requirement.
    fn cohorts(&mut self, requirement: RequirementId) -> BTreeSet<&'a str> {
        let (slots, free) = (self.slots, &self.free);
        let fits = self.fits.of(requirement).iter().filter(|(index, _)| free[*index] > 0);
        fits.map(|(index, _)| slots[*index].cohort.as_str()).collect()
    }
}

/// How many bots one claim looks at for each requirement: a claim costs what it can give, however many bots wait.
const CANDIDATES: usize = 200;

/// The bots that a claim is for, in the order of `slots`, and how many jobs of each requirement they could take. Of
/// more bots than one claim looks at, those that a [`Plan`] would choose come first.
#[must_use]
pub fn choose<'s, 'r>(
    slots: &[&'s Slots],
    requirements: impl Iterator<Item = (&'r RequirementId, &'r Requirement)>,
) -> (Vec<&'s Slots>, Vec<(RequirementId, u32)>) {
    let mut chosen = BTreeSet::new();
    let mut wants = Vec::new();
    for (id, requirement) in requirements {
        let fit = |(i, s): (usize, &&Slots)| (requirement.matches(&s.session.pool, &s.offer), i);
        let mut fits: Vec<(Match, usize)> =
            slots.iter().enumerate().map(fit).filter(|(fit, _)| *fit > Match::No).collect();
        let rank = |&(fit, i): &(Match, usize)| (Reverse((fit, slots[i].session.priority, slots[i].free)), i);
        if fits.len() > CANDIDATES {
            fits.select_nth_unstable_by_key(CANDIDATES, rank);
            fits.truncate(CANDIDATES);
        }
        let room = fits.iter().map(|(_, i)| slots[*i].free).fold(0, u32::saturating_add);
        if room > 0 {
            wants.push((*id, room));
            chosen.extend(fits.into_iter().map(|(_, i)| i));
        }
    }
    (chosen.into_iter().map(|i| slots[i]).collect(), wants)
}

/// Each requirement is compared with each bot once, whatever the number of jobs.
#[derive(Debug)]
struct Fits<'a> {
    slots: &'a [Slots],
    requirements: &'a HashMap<RequirementId, Requirement>,
    known: HashMap<RequirementId, Vec<(usize, Match)>>,
}

impl Fits<'_> {
    fn of(&mut self, id: RequirementId) -> &[(usize, Match)] {
        let (slots, requirements) = (self.slots, self.requirements);
        self.known.entry(id).or_insert_with(|| {
            let Some(requirement) = requirements.get(&id) else {
                return Vec::new();
            };
            let fit = |(i, s): (usize, &Slots)| (i, requirement.matches(&s.session.pool, &s.offer));
            slots.iter().enumerate().map(fit).filter(|(_, fit)| *fit > Match::No).collect()
        })
    }
}
