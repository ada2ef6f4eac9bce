//! [`Pool`]: what the workers of a pool would offer if there were any, as its operator declares it.

use std::collections::{BTreeMap, BTreeSet};

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::image;
use crate::SchedulerError;
use crate::properties::Properties;

/// A pool of workers, as declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// `NAMESPACE/NAME`; workers name it in their session.
    pub name: String,
    /// The grid that it serves.
    pub grid: String,
    /// The instances that it serves; none means all.
    pub instances: BTreeSet<String>,
    /// What its workers have.
    pub properties: Properties,
    /// Keys of a job that it disregards.
    pub ignored: BTreeSet<String>,
    /// The images that its runners are.
    pub runner_images: Vec<String>,
    /// Other images whose jobs it takes all the same.
    pub stands_for: Vec<String>,
    /// The most workers that it may get; 0 while it is stopped.
    pub max_workers: u32,
    /// Leases of one worker at once.
    pub concurrency: u32,
    /// Where several fit, the highest takes the job.
    pub priority: i32,
    /// Whether anybody raises its number of workers on demand.
    pub autoscaled: bool,
}

/// All pools of one owner, which replace what it declared before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// Who declares.
    pub owner: String,
    /// Grows with each declaration.
    pub revision: u64,
    /// When it was stored, by the store's clock.
    #[serde(skip)]
    pub declared_at: Timestamp,
    /// The pools.
    pub pools: Vec<Pool>,
}

/// What a bot, or a pool, has to set against a job's requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// What it has.
    pub properties: Properties,
    /// Keys of a job that it disregards.
    pub ignored: BTreeSet<String>,
}

impl Pool {
    /// What its workers offer, images in every form that a job may name them by.
    #[must_use]
    pub fn offer(&self) -> Offer {
        let mut properties = comparable(&self.properties);
        let images =
            self.runner_images.iter().chain(&self.stands_for).flat_map(|image| image::offered(image));
        let images: BTreeSet<String> = images.collect();
        if !images.is_empty() {
            properties.entry(image::KEY.to_owned()).or_default().extend(images);
        }
        Offer { properties, ignored: self.ignored.clone() }
    }

    /// How many leases it can hold when it has all its workers.
    #[must_use]
    pub fn most_slots(&self) -> u64 {
        u64::from(self.max_workers) * u64::from(self.concurrency)
    }

    /// What keeps it from being declared, as the field and what is wrong with it.
    fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let named =
            self.name.split_once('/').is_some_and(|(space, name)| !space.is_empty() && !name.is_empty());
        let name = (!named).then(|| ("name", format!("{:?} is not NAMESPACE/NAME", self.name)));
        let concurrency =
            (self.concurrency == 0).then(|| ("concurrency", "is 0; at least 1 is needed".to_owned()));
        let key = self.properties.keys().chain(&self.ignored).any(String::is_empty);
        let key = key.then(|| ("properties", "has an empty key".to_owned()));
        name.into_iter().chain(concurrency).chain(key)
    }
}

impl Declaration {
    /// Whether it can be stored, whatever others declared.
    ///
    /// # Errors
    /// [`SchedulerError::InvalidFields`] with every fault.
    pub fn check(&self) -> Result<(), SchedulerError> {
        let mut faults = Vec::new();
        if self.owner.is_empty() {
            faults.push(("owner".to_owned(), "is not set".to_owned()));
        }
        let mut seen = BTreeMap::new();
        for (index, pool) in self.pools.iter().enumerate() {
            faults.extend(pool.faults().map(|(field, what)| (format!("pools[{index}].{field}"), what)));
            if let Some(first) = seen.insert(&pool.name, index) {
                let what = format!("{:?} is declared twice, first by pools[{first}]", pool.name);
                faults.push((format!("pools[{index}].name"), what));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(SchedulerError::InvalidFields(faults)) }
    }
}

/// Properties with images in their comparable forms.
#[must_use]
pub fn comparable(properties: &Properties) -> Properties {
    let mut properties = properties.clone();
    if let Some(images) = properties.get_mut(image::KEY) {
        *images = images.iter().flat_map(|image| image::offered(image)).collect();
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_declaration_is_named() {
        let good = Pool { name: "a/b".into(), concurrency: 1, ..Pool::default() };
        let bad = Pool { name: "b".into(), ..Pool::default() };
        let declaration = Declaration {
            owner: String::new(),
            pools: vec![good.clone(), bad, good],
            ..Declaration::default()
        };
        let Err(SchedulerError::InvalidFields(faults)) = declaration.check() else { panic!("accepted") };
        let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["owner", "pools[1].name", "pools[1].concurrency", "pools[2].name"]);
    }
}
