//! Assigners and cohorts.

use std::collections::BTreeSet;
use std::time::Duration;

use super::decoder::{Decode, Decoder};
use super::{Fields, record};
use crate::model::{Assignment, Cohort, PropertySet};
use crate::table::{COHORT, Kind, Ty};
use crate::yaml::Child;

/// One assigner, as far as it matters.
enum Assigner {
    PriorityAge { count: u32, by_priority: u32 },
    Cohort { cohorts: Option<Vec<String>>, delay: Duration },
}

/// The cohorts of a `!cohort-set`.
struct Cohorts(Vec<Cohort>);

/// What the keys of a scheduler say of how leases are shared out.
pub(super) fn assignment(f: &mut Fields<'_, '_>, labels: Option<&PropertySet>) -> Option<Assignment> {
    let cohorts = f.opt::<Cohorts>("cohort-set");
    let assigners = f.opt::<Vec<Assigner>>("assigners");
    let by_priority = f.opt::<u32>("priority-assignment-percentage");
    let cooldown = f.or::<u64>("eviction-cooldown-seconds");
    let cohorts = cohorts?.map(|cohorts| cohorts.0).unwrap_or_default();
    once_each_label(f, &cohorts)?;
    known_labels(f, &cohorts, labels)?;
    let assigners = assigners?;
    if assigners.is_some() {
        f.no_effect("priority-assignment-percentage", "`assigners` say it, each for itself");
    }
    let assigners = assigners.unwrap_or_else(|| {
        vec![Assigner::PriorityAge { count: 1, by_priority: by_priority.flatten().unwrap_or(100) }]
    });
    Some(Assignment {
        aged_percent: aged(&assigners),
        preempting: preempting(f, &assigners, &cohorts)?,
        preemption_delay: assigners.iter().filter_map(Assigner::delay).min().unwrap_or_default(),
        eviction_cooldown: Duration::from_secs(cooldown?),
        cohorts,
    })
}

impl Assigner {
    const fn delay(&self) -> Option<Duration> {
        match self {
            Self::Cohort { delay, .. } => Some(*delay),
            Self::PriorityAge { .. } => None,
        }
    }
}

/// Of a hundred leases, how many go to the oldest jobs: what assigners leave, each by its weight.
fn aged(assigners: &[Assigner]) -> u32 {
    let (mut left, mut weight) = (0_u64, 0_u64);
    for assigner in assigners {
        if let Assigner::PriorityAge { count, by_priority } = assigner {
            left += u64::from(*count) * u64::from(100 - by_priority.min(&100));
            weight += u64::from(*count);
        }
    }
    left.checked_div(weight).and_then(|percent| u32::try_from(percent).ok()).unwrap_or(0)
}

/// The names of the cohorts in which leases are taken for others.
fn preempting(f: &mut Fields<'_, '_>, assigners: &[Assigner], cohorts: &[Cohort]) -> Option<Vec<String>> {
    let mut names = BTreeSet::new();
    for assigner in assigners {
        let Assigner::Cohort { cohorts: chosen, .. } = assigner else { continue };
        if cohorts.is_empty() {
            f.error_at("assigners", "a `!cohort-assigner` needs the scheduler's `cohort-set`".to_owned());
            return None;
        }
        match chosen {
            None => names.extend(cohorts.iter().map(|cohort| cohort.name.clone())),
            Some(chosen) => {
                if let Some(unknown) = chosen.iter().find(|name| !cohorts.iter().any(|c| c.name == **name)) {
                    f.error_at(
                        "assigners",
                        format!("`cohort-set` of the scheduler has no cohort `{unknown}`"),
                    );
                    return None;
                }
                names.extend(chosen.iter().cloned());
            }
        }
    }
    Some(names.into_iter().collect())
}

fn once_each_label(f: &mut Fields<'_, '_>, cohorts: &[Cohort]) -> Option<()> {
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for cohort in cohorts {
        if !names.insert(&cohort.name) {
            f.error_at("cohort-set", format!("two cohorts are named `{}`", cohort.name));
            return None;
        }
        if let Some(twice) = cohort.labels.iter().find(|label| !labels.insert(*label)) {
            f.error_at("cohort-set", format!("the label `{twice}` is in two cohorts; it may be in one only"));
            return None;
        }
    }
    Some(())
}

/// Where the labels are listed, cohorts can have no others.
fn known_labels(f: &mut Fields<'_, '_>, cohorts: &[Cohort], set: Option<&PropertySet>) -> Option<()> {
    let Some(PropertySet::Static(set)) = set else { return Some(()) };
    let known = |label: &&String| set.labels.iter().any(|known| known.label == **label);
    match cohorts.iter().flat_map(|cohort| &cohort.labels).find(|label| !known(label)) {
        None => Some(()),
        Some(unknown) => {
            f.error_at("cohort-set", format!("the `property-set` has no label `{unknown}`"));
            None
        }
    }
}

impl Decode for Cohorts {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let section = super::objects::section(child, &[Kind::CohortSet], decoder)?;
        let mut fields = Fields::new(child, section, decoder)?;
        fields.req("cohorts").map(Self)
    }
}

impl Decode for Cohort {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &COHORT, decoder)?;
        let f = &mut fields;
        record!(f => Cohort { name: req("name"), labels: req("property-labels") })
    }
}

impl Decode for Assigner {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let section = super::objects::section(child, &[Kind::Assigner], decoder)?;
        let mut fields = Fields::new(child, section, decoder)?;
        let f = &mut fields;
        match section.name {
            "!cohort-assigner" => {
                let (cohorts, delay) = (f.opt("cohort-set"), f.or("preemption-delay"));
                Some(Self::Cohort { cohorts: cohorts?, delay: delay? })
            }
            _ => {
                let (count, by_priority) = (f.or("count"), f.or("priority-assignment-percentage"));
                Some(Self::PriorityAge { count: count?, by_priority: by_priority? })
            }
        }
    }
}
