//! [`Pool`]: what the workers of a pool offer, and whether a job fits.

use serde::{Deserialize, Serialize};

use crate::properties::{Properties, Requirement};

/// A pool as its operator declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name, which its workers send as the config `pool` of their sessions.
    pub name: String,
    /// The grid that it serves.
    pub grid: String,
    /// The instances that it serves; none means all.
    pub instances: Vec<String>,
    /// What its workers have.
    pub properties: Properties,
    /// Keys of a job's requirement that it disregards.
    pub ignored_keys: Vec<String>,
    /// The images that its runners are.
    pub runner_images: Vec<String>,
    /// Other images whose jobs it takes.
    pub stands_for_images: Vec<String>,
    /// Most workers that it may get.
    pub max_workers: u32,
    /// Leases that one worker holds at once.
    pub concurrency: u32,
    /// Where several pools fit a job, the highest takes it.
    pub priority: i32,
    /// Whether anybody raises its number of workers on demand.
    pub autoscaled: bool,
}

/// A pool and its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredPool {
    /// The pool.
    pub pool: Pool,
    /// Who declared it.
    pub owner: String,
    /// In which of the owner's declarations.
    pub revision: u64,
    /// When, in microseconds since the Unix epoch.
    pub declared_at: i64,
}

/// The key by which clients name the image that an action wants to run in.
const CONTAINER_IMAGE: &str = "container-image";

impl Pool {
    /// What a job asks for and this pool lacks: nothing where it fits.
    #[must_use]
    pub fn missing(&self, requirement: &Requirement) -> Vec<(String, String)> {
        let ignored = |key: &String| self.ignored_keys.contains(key);
        let asked = requirement.must.iter().filter(|(key, _)| !ignored(key));
        let lacks = asked.flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        lacks.filter(|(key, value)| !self.has(key, value)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Whether it serves the instances of this pool of instances.
    #[must_use]
    pub fn serves(&self, instance: &str) -> bool {
        self.instances.is_empty() || self.instances.iter().any(|name| name == instance || name == "*")
    }

    fn has(&self, key: &str, value: &str) -> bool {
        let offered = self.properties.get(key).is_some_and(|values| values.contains(value));
        offered || key == CONTAINER_IMAGE && self.is_image(value)
    }

    fn is_image(&self, asked: &str) -> bool {
        let asked = plain(asked);
        self.runner_images.iter().chain(&self.stands_for_images).any(|image| {
            let image = plain(image);
            // An image may be known by its tag, by its digest, or by both.
            image == asked || image.split_once('@').is_some_and(|(tagged, digest)| {
                let name = tagged.rsplit_once(':').map_or(tagged, |(name, _)| name);
                tagged == asked || format!("{name}@{digest}") == asked
            })
        })
    }
}

fn plain(image: &str) -> &str {
    image.strip_prefix("docker://").unwrap_or(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, value: &str) -> Requirement {
        let must = Properties::from([(key.into(), [value.into()].into())]);
        Requirement { must, ..Requirement::default() }
    }

    #[test]
    fn images_are_known_by_tag_and_by_digest() {
        let pool = Pool {
            runner_images: vec!["r/gcc:12@sha256:aa".into(), "r/clang:16".into()],
            stands_for_images: vec!["docker://r/old:1".into()],
            ..Pool::default()
        };
        for image in ["docker://r/gcc:12", "r/gcc@sha256:aa", "r/gcc:12@sha256:aa", "r/clang:16", "r/old:1"] {
            assert!(pool.missing(&requirement("container-image", image)).is_empty(), "{image}");
        }
        for image in ["r/gcc:13", "r/gcc@sha256:bb", "r/clang"] {
            assert_eq!(pool.missing(&requirement("container-image", image)).len(), 1, "{image}");
        }
    }

    #[test]
    fn ignored_keys_stand_in_nobodys_way() {
        let pool = Pool { ignored_keys: vec!["gpu".into()], ..Pool::default() };
        assert!(pool.missing(&requirement("gpu", "a100")).is_empty());
        assert_eq!(pool.missing(&requirement("ISA", "sparc")), [("ISA".into(), "sparc".into())]);
    }
}
