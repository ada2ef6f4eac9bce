//! The chart as text: which values it refuses, and what it asks for where it is limited to one namespace. Of the cluster only
//! its helm is used.

use anyhow::Result;

use crate::gridcluster::Cluster;
use crate::{environment, process};

/// Values that the schema refuses, each with a part of what Helm says.
const REFUSED: [(&str, &str); 20] = [
    ("image.registry=", "registry"),
    ("image.registry=registry.example/", "registry"),
    ("image.tag=a b", "tag"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("image.pullSecrets=registry", "pullSecrets"),
    ("replicas=0", "replicas"),
    ("replicas=9", "replicas"),
    ("watchNamespace=Builds", "watchNamespace"),
    ("crds.enabled=maybe", "enabled"),
    ("rbac.agregate=false", "agregate"),
    ("rollout.atOnce=0", "atOnce"),
    ("rollout.pauseSeconds=-1", "pauseSeconds"),
    ("podMonitor.interval=30", "interval"),
    ("resources=large", "resources"),
    ("nodeSelector=fast", "nodeSelector"),
    ("log=", "log"),
    ("topologySpreadConstraints[0].topologyKey=zone", "topologySpreadConstraints"),
    ("podDisruptionBudget.enabled=sometimes", "enabled"),
    ("networkPolicy.apiServerPorts[0]=0", "apiServerPorts"),
    ("networkPolicy.metricsFrom=anybody", "metricsFrom"),
];

/// What is there with some values, and is not there by default.
const ASKED: [(&str, &[&str]); 4] = [
    ("replicas=2", &["kind: PodDisruptionBudget", "whenUnsatisfiable: ScheduleAnyway"]),
    (
        "topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule",
        &["topologyKey: zone"],
    ),
    ("networkPolicy.enabled=true", &["kind: NetworkPolicy", "port: 6443", "grid.build/kind: BuildGrid"]),
    (
        "networkPolicy.enabled=true,networkPolicy.metricsFrom[0].podSelector.matchLabels.reads=metrics",
        &["reads: metrics"],
    ),
];

/// Helm takes the chart's own values, refuses wrong ones by name, and makes nothing of the whole cluster where the chart
/// is limited to one namespace.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn values() -> Result<()> {
    let cluster = Cluster::up(1)?;
    let chart = environment::root().join("charts/grid-operator");
    let chart = chart.to_string_lossy();
    let template = |settings: &[&str]| {
        let words = ["helm", "template", "grid-operator", &*chart, "--kube-version", "1.35.0"];
        let set = ["image.registry=registry.example/grid"].into_iter().chain(settings.iter().copied());
        let set = set.flat_map(|setting| ["--set", setting]);
        process::capture(&mut cluster.command(words.into_iter().chain(set)))
    };
    for (setting, part) in REFUSED {
        let refused = template(&[setting])?;
        anyhow::ensure!(
            !refused.success && refused.text.contains(part),
            "helm with {setting} said, without a word of {part}: {}",
            refused.text
        );
    }
    let all = template(&[])?;
    anyhow::ensure!(all.success && all.text.contains("kind: ClusterRole"), "{}", all.text);
    for (setting, parts) in ASKED {
        let asked = template(&[setting])?;
        for part in parts {
            anyhow::ensure!(
                asked.text.contains(part) && !all.text.contains(part),
                "{part} with {setting}: {}",
                asked.text
            );
        }
    }
    let unguarded = template(&["replicas=2", "podDisruptionBudget.enabled=false"])?;
    anyhow::ensure!(
        unguarded.success && !unguarded.text.contains("PodDisruptionBudget"),
        "{}",
        unguarded.text
    );
    let one = template(&["watchNamespace=builds", "crds.enabled=false"])?;
    anyhow::ensure!(one.success && one.text.contains("--watch-namespace=builds"), "{}", one.text);
    for kind in ["kind: ClusterRole", "kind: CustomResourceDefinition", "resources: [nodes]"] {
        anyhow::ensure!(!one.text.contains(kind), "limited to a namespace, the chart has {kind}");
    }
    let registry = "image.registry=registry.example/grid";
    process::run(&mut cluster.command(["helm", "lint", "--strict", &*chart, "--set", registry]))
}
