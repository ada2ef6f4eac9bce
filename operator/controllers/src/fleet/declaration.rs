//! A grid's pools as Fleet knows them: what their workers would offer if there were any.

use std::time::Duration;

use grid_operator_api::{WorkerPool, WorkerPoolSpec};
use grid_proto::fleet;
use kube::ResourceExt;

use super::Key;

/// Label of nodes, and so key of node selectors, with the processor's architecture.
const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";

/// All pools of one grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Who declares them: the grid.
    pub owner: String,
    /// The pools, by name.
    pub pools: Vec<fleet::Pool>,
    /// How long running actions have when a node is to be emptied: as long as the most patient pool gives them.
    pub grace: Duration,
}

/// The pools of a grid.
pub(crate) fn declare(grid: &Key, pools: &[WorkerPool], asleep: bool) -> Declaration {
    let seconds = pools.iter().map(|pool| pool.spec.grace_period_seconds).max().unwrap_or_default();
    Declaration {
        owner: grid.path(),
        pools: pools.iter().map(|pool| declared(grid, pool, asleep)).collect(),
        grace: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    }
}

fn declared(grid: &Key, pool: &WorkerPool, asleep: bool) -> fleet::Pool {
    let spec = &pool.spec;
    let properties = offered(spec).iter().map(|(name, value)| property(name, value)).collect();
    fleet::Pool {
        name: Key::new(&pool.namespace().unwrap_or_default(), &pool.name_any()).path(),
        grid: grid.path(),
        instance_names: vec![spec.instance_name.clone()],
        properties,
        ignored_keys: vec![],
        runner_images: vec![spec.image.clone()],
        stands_for_images: vec![],
        max_workers: if asleep { 0 } else { max_workers(pool) },
        concurrency: u32::try_from(spec.concurrency).unwrap_or(1),
        priority: spec.priority,
        autoscaled: spec.autoscaling.is_some(),
    }
}

/// The platform properties that a pool's workers offer, names and values.
pub(crate) fn offered(spec: &WorkerPoolSpec) -> Vec<(String, String)> {
    let mut properties: Vec<(String, String)> =
        spec.properties.iter().map(|p| (p.name.clone(), p.value.clone())).collect();
    // Fleet adds these to what each worker of the pool says of itself, so nothing here may be a guess: where no node
    // selector says otherwise, the workers' images are for the processor that this operator's own image is for.
    let own = [("OSFamily", "linux"), ("ISA", isa(architecture(spec).unwrap_or(std::env::consts::ARCH)))];
    for (key, value) in own {
        if properties.iter().all(|(name, _)| name != key) {
            properties.push((key.to_owned(), value.to_owned()));
        }
    }
    properties
}

fn max_workers(pool: &WorkerPool) -> u32 {
    let spec = &pool.spec;
    let current = pool.status.as_ref().map_or(1, |status| status.desired_replicas.unwrap_or(1));
    let most = spec.autoscaling.as_ref().map_or(spec.replicas.unwrap_or(current), |a| a.max_replicas);
    u32::try_from(most).unwrap_or(0)
}

fn property(key: &str, value: &str) -> fleet::Property {
    fleet::Property { key: key.to_owned(), value: value.to_owned() }
}

/// The architecture that the pool's pods are bound to.
fn architecture(spec: &WorkerPoolSpec) -> Option<&str> {
    let spec = spec.pod_template.as_ref()?.spec.as_ref()?;
    spec.get("nodeSelector")?.get(ARCHITECTURE_LABEL)?.as_str()
}

/// Kubernetes' or the compiler's name of an architecture as a worker offers it.
fn isa(architecture: &str) -> &str {
    match architecture {
        "amd64" | "x86_64" => "x86-64",
        "arm64" => "aarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(spec: &serde_json::Value) -> WorkerPool {
        serde_json::from_value(json!({"apiVersion": "grid.build/v1alpha1", "kind": "WorkerPool",
            "metadata": {"name": "gcc", "namespace": "builds"}, "spec": spec}))
        .unwrap()
    }

    #[test]
    fn a_pool_offers_its_properties_its_system_and_its_image() {
        let pool = pool(&json!({"gridRef": {"name": "demo"}, "image": "gcc:12", "concurrency": 4,
            "properties": [{"name": "toolchain", "value": "gcc12"}], "autoscaling": {"maxReplicas": 7},
            "podTemplate": {"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}}));
        let grid = Key::new("builds", "demo");
        let declared = &declare(&grid, std::slice::from_ref(&pool), false).pools[0];
        let offers: Vec<(&str, &str)> =
            declared.properties.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
        assert_eq!(offers, [("toolchain", "gcc12"), ("OSFamily", "linux"), ("ISA", "aarch64")]);
        assert_eq!((declared.name.as_str(), declared.grid.as_str()), ("builds/gcc", "builds/demo"));
        assert_eq!((declared.max_workers, declared.concurrency, declared.autoscaled), (7, 4, true));
        assert_eq!(declare(&grid, &[pool], true).pools[0].max_workers, 0, "nothing runs while it hibernates");
    }

    #[test]
    fn a_pool_says_of_its_system_what_the_user_says() {
        let declared = declare(
            &Key::new("builds", "demo"),
            &[pool(&json!({"gridRef": {"name": "demo"}, "image": "gcc:12", "replicas": 3,
                "properties": [{"name": "ISA", "value": "sparc"}]}))],
            false,
        );
        let isas: Vec<&str> = declared.pools[0]
            .properties
            .iter()
            .filter(|p| p.key == "ISA")
            .map(|p| p.value.as_str())
            .collect();
        assert_eq!(isas, ["sparc"]);
        assert_eq!((declared.pools[0].max_workers, declared.pools[0].autoscaled), (3, false));
    }
}
