//! [`plan`]: which of the waiting jobs goes to which of the free bots. Pure; it neither reads nor writes rows.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::fleet::Offer;
use crate::ids::SessionId;
use crate::job::Job;
use crate::properties::{Match, Requirement, RequirementId};
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
}

/// For each waiting job, in the queue's order, the session that gets it, if any.
///
/// Among the bots that can run a job the choice goes to one that has what the job prefers, then to the higher
/// bot priority, to one that ran jobs with the same locality hint, to the one with most room, and at last to
/// the one that has waited longest, as `slots` are ordered.
#[must_use]
pub fn plan(
    jobs: &[Job],
    slots: &[Slots],
    requirements: &HashMap<RequirementId, Requirement>,
) -> Vec<Option<SessionId>> {
    let mut free: Vec<u32> = slots.iter().map(|s| s.free).collect();
    let mut fits = Fits { slots, requirements, known: HashMap::new() };
    jobs.iter()
        .map(|job| {
            let candidates = fits.of(job.spec.requirement);
            let rank = |&(index, fit): &(usize, Match)| {
                let slot = &slots[index];
                let local = !job.spec.locality.is_empty() && slot.localities.contains(&job.spec.locality);
                // Greatest wins, and the last of equals: turn the index round for the first.
                (fit, slot.session.priority, local, free[index], usize::MAX - index)
            };
            let best =
                candidates.iter().filter(|(index, _)| free[*index] > 0).max_by_key(|c| rank(c)).copied();
            best.map(|(index, _)| {
                free[index] -= 1;
                slots[index].session.id
            })
        })
        .collect()
}

/// How many bots one claim looks at for each requirement: a claim costs what it can give, however many bots wait.
const CANDIDATES: usize = 200;

/// The bots that a claim is for, in the order of `slots`, and how many jobs of each requirement they could take. Of
/// more bots than one claim looks at, those that [`plan`] would choose come first.
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
