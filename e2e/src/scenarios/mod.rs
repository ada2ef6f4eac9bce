//! The scenarios, each in a file of its own.

mod assets;
mod backup;
mod bare;
mod bgd;
mod big;
mod broken;
mod buildbox;
mod buildbox_pool;
mod builds;
mod buildstream;
mod chaos;
mod chart;
mod chart_namespaced;
mod chart_values;
mod day_two;
mod expiry;
mod fault_loop;
mod from_scratch;
mod grpcurl;
mod hostile;
mod identities;
mod ingress;
mod kills;
mod moving;
mod on_cluster;
mod outputs;
mod persistent;
mod proxies;
mod push;
mod recc;
mod remotetool;
mod resume;
mod scale;
mod side_by_side;
mod topologies;
mod unplaceable;
mod upgrade;
mod variants;

use std::time::Instant;

use anyhow::{Context, Result};

/// Something that is shown on real parts.
pub(crate) struct Scenario {
    /// What `grid-e2e run` calls it.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) shows: &'static str,
    run: fn() -> Result<()>,
}

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "bare",
        shows: "Bazel on an all-in-one server and a worker, without a cluster",
        run: bare::remote,
    },
    Scenario {
        name: "fault-loop",
        shows: "Bazel builds succeed while workers and runners are killed every few seconds",
        run: fault_loop::builds,
    },
    Scenario {
        name: "outputs",
        shows: "what REAPI says of outputs, on grid-worker and on buildbox-worker",
        run: outputs::conformance,
    },
    Scenario {
        name: "side-by-side",
        shows: "grid-worker and buildbox-worker on the same actions and the same build, measured",
        run: side_by_side::measure,
    },
    Scenario {
        name: "cache-only",
        shows: "Bazel with a remote cache and no execution",
        run: topologies::cache_only,
    },
    Scenario {
        name: "buildstream-artifacts",
        shows: "BuildStream pushes and pulls artifacts and sources",
        run: assets::buildstream,
    },
    Scenario {
        name: "downloader",
        shows: "Bazel has the server download what it needs",
        run: assets::downloader,
    },
    Scenario {
        name: "recc",
        shows: "recc compiles and links, remotely and from the cache",
        run: recc::build,
    },
    Scenario {
        name: "buildbox-worker",
        shows: "buildbox-worker, with buildbox-casd before the grid, as a bot",
        run: buildbox::worker,
    },
    Scenario {
        name: "buildbox-tools",
        shows: "buildbox-casd before and behind the grid, casupload, casdownload, trexe, log streams",
        run: buildbox::tools,
    },
    Scenario { name: "bgd", shows: "BuildGrid's own client commands, without a cluster", run: bgd::local },
    Scenario {
        name: "bgd-ingress",
        shows: "BuildGrid's own client commands through the TLS ingress of a grid on a cluster",
        run: bgd::through_ingress,
    },
    Scenario {
        name: "sparc",
        shows: "an action that no declared pool can run: grid why and Bazel's user read the reason",
        run: unplaceable::sparc,
    },
    Scenario {
        name: "nginx",
        shows: "streams through nginx outlive its timeouts with the settings that the documentation names",
        run: proxies::nginx,
    },
    Scenario {
        name: "traefik",
        shows: "streams through the cluster's ingress outlive a quarter of an hour of silence",
        run: proxies::traefik,
    },
    Scenario {
        name: "grpcurl",
        shows: "grpcurl describes, calls and prints everything by reflection, what is packed in Any included",
        run: grpcurl::calls,
    },
    Scenario {
        name: "remotetool",
        shows: "remotetool and rexec: trees, blobs, commands and actions up, down and executed",
        run: remotetool::calls,
    },
    Scenario {
        name: "buildstream",
        shows: "BuildStream builds a compose of 33 elements on the grid, and shares it",
        run: buildstream::build,
    },
    Scenario {
        name: "persistent-workers",
        shows: "Bazel's persistent workers: one process of each form does many actions, another tool's are another's",
        run: persistent::workers,
    },
    Scenario {
        name: "bazel-variants",
        shows: "Bazel with other downloads, digests and strategies, tests, an interruption, a server's crash",
        run: variants::bazel,
    },
    Scenario {
        name: "ingress",
        shows: "Bazel through the TLS ingress of a grid made from one manifest",
        run: ingress::build,
    },
    Scenario {
        name: "sandboxes",
        shows: "BuildStream on a cluster, by the files that the operator wrote",
        run: buildstream::through_ingress,
    },
    Scenario {
        name: "hostile",
        shows: "hostile commands in a pool of each mode of isolation",
        run: hostile::pools,
    },
    Scenario {
        name: "from-scratch",
        shows: "an image with a compiler and nothing else compiles, links and runs",
        run: from_scratch::toolchain,
    },
    Scenario {
        name: "buildbox-pool",
        shows: "a pool of buildbox-worker and buildbox-casd compiles, links and runs; hostile commands in it",
        run: buildbox_pool::pool,
    },
    Scenario {
        name: "split",
        shows: "Bazel on CAS, action cache, execution and bots as servers of their own",
        run: topologies::split,
    },
    Scenario {
        name: "postgres",
        shows: "Bazel on PostgreSQL with two replicas of each server",
        run: topologies::postgres,
    },
    Scenario {
        name: "s3",
        shows: "Bazel on a bucket that is cleaned every minute down to less than a build needs",
        run: expiry::s3,
    },
    Scenario { name: "push", shows: "cargo xtask images --push fills a registry", run: push::images },
    Scenario {
        name: "chart",
        shows: "helm installs, tests, upgrades, rolls back and uninstalls the operator; grids live on",
        run: chart::lifecycle,
    },
    Scenario {
        name: "chart-namespaced",
        shows: "an operator of one namespace, under the strictest standard, and the rights that it has not",
        run: chart_namespaced::limited,
    },
    Scenario {
        name: "chart-values",
        shows: "helm refuses wrong values, and a chart limited to a namespace asks for nothing more",
        run: chart_values::values,
    },
    Scenario {
        name: "broken",
        shows: "each broken manifest is refused or ends in its condition",
        run: broken::manifests,
    },
    Scenario {
        name: "kills",
        shows: "builds succeed while each pod in turn is killed",
        run: kills::postgres,
    },
    Scenario {
        name: "resume",
        shows: "an upload, a log, build events, a tree and a wait go on when their replica dies",
        run: resume::resume,
    },
    Scenario {
        name: "identities",
        shows: "builds by mutual TLS and by tokens, each refused without; keys and certificates replaced meanwhile",
        run: identities::identities,
    },
    Scenario {
        name: "rotations",
        shows: "certificates and tokens of a grid on mutual TLS are replaced during builds, and no pod is",
        run: day_two::rotations,
    },
    Scenario {
        name: "drain",
        shows: "a node is cordoned during builds; its workers finish and start elsewhere (two nodes)",
        run: day_two::drain,
    },
    Scenario {
        name: "ailing",
        shows: "a pool without an image says so; the support bundle tells it, and no secret",
        run: day_two::ailing,
    },
    Scenario {
        name: "scale",
        shows: "an operator of 1,000 resources: memory, times, and no write at rest",
        run: scale::scale,
    },
    Scenario {
        name: "backup",
        shows: "a grid is lost, and comes back from a database and a volume of different moments",
        run: backup::restore,
    },
    Scenario {
        name: "move",
        shows: "a tier moves from a disk to a bucket while builds run",
        run: moving::disk_to_bucket,
    },
    Scenario {
        name: "chaos",
        shows: "everything is killed at random, and leaders are stopped past their Lease, while builds run",
        run: chaos::chaos,
    },
    Scenario {
        name: "upgrade",
        shows: "from an earlier commit's release to this one and back, part by part, while builds run",
        run: upgrade::upgrade,
    },
    Scenario {
        name: "big",
        shows: "2,000 actions while everything is upgraded, replaced, killed and rotated (two nodes)",
        run: big::big,
    },
    Scenario {
        name: "one-pod",
        shows: "a build outlives its only server with the flags that the documentation names",
        run: kills::one_pod,
    },
];

/// Runs the scenario of this name.
///
/// # Errors
/// Where there is none of this name, or it fails.
pub(crate) fn run(name: &str) -> Result<()> {
    let scenario = ALL
        .iter()
        .find(|s| s.name == name)
        .with_context(|| format!("no scenario {name:?}; see `grid-e2e list`"))?;
    println!("    {name}: {}", scenario.shows);
    let start = Instant::now();
    (scenario.run)().with_context(|| format!("scenario {name}"))?;
    println!("    {name}: passed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
