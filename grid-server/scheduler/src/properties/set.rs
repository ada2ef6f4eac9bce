//! [`PropertySet`]: from a client's platform to a [`Requirement`], as BuildGrid's three kinds of set do it.
//!
//! Here a platform that can never match is refused; whether a bot of the kind is there today is not asked.

use std::collections::BTreeSet;

use super::{Properties, Requirement};
use crate::SchedulerError;
use crate::fleet::image;

/// Keys that say what a worker may do besides, as Bazel gives them: one that knows nothing of them does the same work. So
/// they are accepted everywhere, and matched only where a configuration or a pool names them.
const HINTS: [&str; 2] = ["persistentWorkerKey", "persistentWorkerProtocol"];

/// The configured way of reading platforms.
#[derive(Clone, Debug)]
pub enum PropertySet {
    /// Any values of a list of known keys.
    Dynamic(DynamicSet),
    /// A fixed list of platforms.
    Static(StaticSet),
    /// Another set for each group of instances.
    Instanced(InstancedSet),
}

impl Default for PropertySet {
    fn default() -> Self {
        Self::Dynamic(DynamicSet::default())
    }
}

/// Jobs match bots by the values of known keys; `OSFamily` and `ISA` are always known.
#[derive(Clone, Debug, Default)]
pub struct DynamicSet {
    /// Keys that a platform gives at most once; `OSFamily` is one always.
    pub unique: BTreeSet<String>,
    /// Keys that are matched.
    pub matched: BTreeSet<String>,
    /// Keys that are accepted and not matched.
    pub wildcard: BTreeSet<String>,
    /// Keys that are matched where a bot with their values is free.
    pub preferred: BTreeSet<String>,
    /// The key whose value labels a job in metrics; `OSFamily` where empty.
    pub label_key: String,
}

/// Jobs match one of a list of platforms.
#[derive(Clone, Debug, Default)]
pub struct StaticSet {
    /// The platforms, in order of preference.
    pub labels: Vec<StaticLabel>,
    /// Keys that are accepted and not matched.
    pub wildcard: BTreeSet<String>,
    /// A bot with such a key runs only jobs of labels that name the key.
    pub exclusive: BTreeSet<String>,
    /// Keys that are matched where a bot with their values is free.
    pub preferred: BTreeSet<String>,
}

/// One platform of a [`StaticSet`].
#[derive(Clone, Debug, Default)]
pub struct StaticLabel {
    /// Its name.
    pub label: String,
    /// What a bot of it has.
    pub properties: Properties,
}

/// A set for each group of instances.
#[derive(Clone, Debug, Default)]
pub struct InstancedSet {
    /// Instances and their set; the instance `*` stands for all that are not named.
    pub sets: Vec<(Vec<String>, PropertySet)>,
}

impl PropertySet {
    /// What a job with this platform asks of a bot. `declared` are the keys that declared pools know: a dynamic
    /// set matches them as if they were listed.
    ///
    /// # Errors
    /// [`SchedulerError::Unsatisfiable`] for a key that no list declares, a unique key given twice, and a
    /// platform that no label covers; the message names the lists.
    pub fn requirement(
        &self,
        instance: &str,
        pool: &str,
        platform: &[(String, String)],
        declared: &BTreeSet<String>,
    ) -> Result<Requirement, SchedulerError> {
        let mut requirement = match self {
            Self::Dynamic(set) => set.requirement(platform, declared)?,
            Self::Static(set) => set.requirement(platform)?,
            Self::Instanced(set) => {
                return set.find(instance)?.requirement(instance, pool, platform, declared);
            }
        };
        let asked = [&mut requirement.must, &mut requirement.prefer];
        for images in asked.into_iter().filter_map(|properties| properties.get_mut(image::KEY)) {
            *images = images.iter().map(|image| image::asked(image)).collect();
        }
        pool.clone_into(&mut requirement.pool);
        Ok(requirement)
    }
}

impl PropertySet {
    /// The labels of what a bot of this instance can run: each that it has all properties of, or the values of the key
    /// that labels jobs. A bot that serves every instance has those of every set.
    #[must_use]
    pub fn bot_labels(&self, instance: &str, properties: &Properties) -> BTreeSet<String> {
        match self {
            Self::Dynamic(set) => properties.get(set.label_key()).cloned().unwrap_or_default(),
            Self::Static(set) => {
                let has = |key: &String, values: &BTreeSet<String>| {
                    properties.get(key).is_some_and(|own| own.is_superset(values))
                };
                let met =
                    |label: &&StaticLabel| label.properties.iter().all(|(key, values)| has(key, values));
                set.labels.iter().filter(met).map(|label| label.label.clone()).collect()
            }
            Self::Instanced(sets) if instance == "*" => {
                sets.sets.iter().flat_map(|(_, set)| set.bot_labels(instance, properties)).collect()
            }
            Self::Instanced(sets) => {
                sets.find(instance).map(|set| set.bot_labels(instance, properties)).unwrap_or_default()
            }
        }
    }
}

impl DynamicSet {
    fn label_key(&self) -> &str {
        if self.label_key.is_empty() { "OSFamily" } else { &self.label_key }
    }

    fn requirement(
        &self,
        platform: &[(String, String)],
        declared: &BTreeSet<String>,
    ) -> Result<Requirement, SchedulerError> {
        let label_key = self.label_key();
        let mut requirement = Requirement::default();
        let mut given: Properties = Properties::new();
        for (key, value) in platform {
            given.entry(key.clone()).or_default().insert(value.clone());
            if self.preferred.contains(key) {
                requirement.prefer.entry(key.clone()).or_default().insert(value.clone());
            } else if self.matched.contains(key) || key == "OSFamily" || key == "ISA" {
                requirement.must.entry(key.clone()).or_default().insert(value.clone());
            } else if self.wildcard.contains(key) {
                // Said to be matched by nothing, whatever pools declare.
            } else if declared.contains(key) {
                requirement.must.entry(key.clone()).or_default().insert(value.clone());
            } else if key != label_key && !self.unique.contains(key) && !HINTS.contains(&key.as_str()) {
                return Err(self.undeclared(key, declared));
            }
        }
        let twice = given.iter().find(|(key, values)| {
            values.len() > 1 && (self.unique.contains(*key) || key.as_str() == "OSFamily")
        });
        if let Some((key, values)) = twice {
            let values = values.iter().cloned().collect::<Vec<_>>().join(", ");
            let message = format!("platform property {key:?} may have one value, and has: {values}");
            return Err(SchedulerError::Unsatisfiable { message, property: key.clone() });
        }
        let label = given.get(label_key).and_then(|values| values.first());
        requirement.label = label.cloned().unwrap_or_else(|| "unknown".into());
        Ok(requirement)
    }

    fn undeclared(&self, key: &str, declared: &BTreeSet<String>) -> SchedulerError {
        let always = ["ISA".to_owned(), "OSFamily".to_owned()];
        let matched: BTreeSet<String> = self.matched.iter().chain(declared).cloned().chain(always).collect();
        let message = format!(
            "platform property {key:?} is not known to this server; matched: {}; preferred: {}; accepted and not \
             matched: {}",
            list(&matched),
            list(&self.preferred),
            list(&self.wildcard)
        );
        SchedulerError::Unsatisfiable { message, property: key.to_owned() }
    }
}

impl StaticSet {
    fn requirement(&self, platform: &[(String, String)]) -> Result<Requirement, SchedulerError> {
        let mut asked = Properties::new();
        let mut prefer = Properties::new();
        let named = |key: &String| self.labels.iter().any(|label| label.properties.contains_key(key));
        let is_matched =
            |key: &String| !self.wildcard.contains(key) && (!HINTS.contains(&key.as_str()) || named(key));
        for (key, value) in platform.iter().filter(|(key, _)| is_matched(key)) {
            let into = if self.preferred.contains(key) { &mut prefer } else { &mut asked };
            into.entry(key.clone()).or_default().insert(value.clone());
        }
        let covers = |label: &&StaticLabel| {
            asked.iter().all(|(k, values)| label.properties.get(k).is_some_and(|has| has.is_superset(values)))
        };
        let Some(label) = self.labels.iter().find(covers) else {
            return Err(self.uncovered(&asked));
        };
        let named = |key: &&String| !label.properties.contains_key(*key);
        Ok(Requirement {
            pool: String::new(),
            label: label.label.clone(),
            must: label.properties.clone(),
            prefer,
            without: self.exclusive.iter().filter(named).cloned().collect(),
        })
    }

    fn uncovered(&self, asked: &Properties) -> SchedulerError {
        let keys: BTreeSet<String> =
            self.labels.iter().flat_map(|label| label.properties.keys().cloned()).collect();
        let property = asked.keys().find(|key| !keys.contains(*key)).or_else(|| asked.keys().next());
        let labels = self.labels.iter().map(|label| label.label.clone()).collect();
        let message = format!(
            "no platform of this server has all properties asked for; platforms: {}; keys: {}; accepted and not \
             matched: {}",
            list(&labels),
            list(&keys),
            list(&self.wildcard)
        );
        SchedulerError::Unsatisfiable { message, property: property.cloned().unwrap_or_default() }
    }
}

impl InstancedSet {
    fn find(&self, instance: &str) -> Result<&PropertySet, SchedulerError> {
        let named = |name: &str| self.sets.iter().find(|(names, _)| names.iter().any(|n| n == name));
        named(instance).or_else(|| named("*")).map(|(_, set)| set).ok_or_else(|| {
            SchedulerError::Unsatisfiable {
                message: format!("no property set is configured for instance {instance:?}"),
                property: String::new(),
            }
        })
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "none".into() } else { names.iter().cloned().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(platform: &[(&str, &str)]) -> Vec<(String, String)> {
        platform.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn hints_are_accepted_everywhere_and_matched_where_they_are_named() {
        let hint = HINTS[0];
        let platform = pairs(&[("OSFamily", "linux"), (hint, "k")]);
        let label = |keys: &[&str]| StaticLabel {
            label: "linux".to_owned(),
            properties: keys
                .iter()
                .map(|key| {
                    let value = if *key == hint { "k" } else { "linux" };
                    ((*key).to_owned(), BTreeSet::from([value.to_owned()]))
                })
                .collect(),
        };
        let fixed = |keys: &[&str]| {
            PropertySet::Static(StaticSet { labels: vec![label(keys)], ..StaticSet::default() })
        };
        let listed = DynamicSet { matched: BTreeSet::from([hint.to_owned()]), ..DynamicSet::default() };
        for (set, matched) in [
            (PropertySet::default(), false),
            (PropertySet::Dynamic(listed), true),
            (fixed(&["OSFamily"]), false),
            (fixed(&["OSFamily", hint]), true),
        ] {
            let requirement = set.requirement("", "", &platform, &BTreeSet::new()).unwrap();
            assert_eq!(requirement.must.contains_key(hint), matched, "{set:?}");
        }
        let unknown = pairs(&[("nobodys", "x")]);
        assert!(PropertySet::default().requirement("", "", &unknown, &BTreeSet::new()).is_err());
    }
}
