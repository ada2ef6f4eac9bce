//! The rows: each a thing that the issues ask to be shown, and the command that shows it.

use std::process::Command;

use anyhow::Result;

use crate::shell;

/// When a row runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// With every change, in `cargo xtask test`.
    Always,
    /// In `cargo xtask test --full` only.
    Full,
}

/// One thing to show.
pub(crate) struct Row {
    /// Its name: what a filter matches, and the name of its record.
    pub(crate) name: &'static str,
    /// The issue and the row of its "Shown by", or the rule that it keeps.
    pub(crate) shows: &'static str,
    pub(crate) when: When,
    /// The program and its arguments, run in the checkout; `xtask` is this program.
    command: &'static [&'static str],
}

impl Row {
    /// Runs the row's command.
    ///
    /// # Errors
    /// Where it fails.
    pub(crate) fn run(&self) -> Result<()> {
        shell::run(&mut self.prepare()?)
    }

    /// Whether it runs clients or the cluster.
    pub(crate) fn uses_cluster(&self) -> bool {
        self.command.contains(&"grid-e2e") || self.command.starts_with(&["xtask", "bgd"])
    }

    fn prepare(&self) -> Result<Command> {
        let (program, arguments) = self.command.split_first().map_or(("true", &[][..]), |(p, a)| (*p, a));
        let itself = std::env::current_exe()?;
        let program = if program == "xtask" { itself.to_str().unwrap_or(program) } else { program };
        let mut command = shell::command(program, arguments)?;
        // The registry's own protocol descriptors are fetched to compare ours with them.
        command.env("GRID_REGISTRY_TESTS", "1").env("CARGO_TERM_COLOR", "never");
        Ok(command)
    }
}

const fn always(name: &'static str, shows: &'static str, command: &'static [&'static str]) -> Row {
    Row { name, shows, when: When::Always, command }
}

const fn full(name: &'static str, shows: &'static str, command: &'static [&'static str]) -> Row {
    Row { name, shows, when: When::Full, command }
}

/// The command that runs a scenario of `e2e`.
macro_rules! scenario {
    ($name:literal) => {
        &["cargo", "run", "--quiet", "--locked", "-p", "grid-e2e", "--", "run", $name]
    };
}

/// The command that runs a test of a crate, optimised, for as long as the variable says.
macro_rules! long_test {
    ($variable:literal, $package:literal, $test:literal $(, $filter:literal)?) => {
        &[
            "env", $variable, "cargo", "test", "--locked", "--profile", "e2e", "-p", $package, "--test", $test,
            $($filter)?
        ]
    };
}

/// Every row, in the order in which they run: what is quick to fail comes first.
pub(crate) const ROWS: &[Row] = &[
    always("fmt", "house style: formatting", &["cargo", "fmt", "--all", "--check"]),
    always(
        "clippy",
        "house style: lints, without exception",
        &["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
    ),
    always(
        "unit",
        "unit, property, conformance and process tests; 2,000 schedules of the scheduler; generated files are current",
        &["cargo", "test", "--workspace", "--locked", "--quiet", "--no-fail-fast"],
    ),
    always(
        "cluster-unit",
        "issue 4, A7: the test cluster's own tests",
        &["sh", "-c", "cd e2e/cluster && test -z \"$(gofmt -l .)\" && go vet ./... && go test ./..."],
    ),
    full(
        "simulation-full",
        "issue 7, 1: 100,000 schedules of crashes and lost news",
        long_test!("GRID_SIM_SEEDS=100000", "grid-scheduler", "simulation"),
    ),
    full(
        "operator-simulation",
        "issue 9, 2: the reconcilers in 10,000 worlds in which everything goes wrong",
        long_test!("GRID_SEEDS=10000", "grid-operator-controllers", "it", "simulation"),
    ),
    full(
        "operator-scale",
        "issue 9, speed: a thousand resources at rest, and no write",
        long_test!("GRID_SCALE=1000", "grid-operator-controllers", "it", "scale"),
    ),
    full(
        "mutations",
        "issue 7, 1: a mutation of each invariant's code is seen to be caught",
        &["xtask", "mutations"],
    ),
    full(
        "crashes",
        "issue 7, 2: three replicas and their PostgreSQL killed in turn for 30 minutes, 100 bots",
        long_test!("GRID_CRASH_MINUTES=30", "grid-server", "crashes"),
    ),
    always("images", "issue 4, A8: the images under test", &["xtask", "images", "--profile", "e2e"]),
    always("bare", "issue 4, 3a: Bazel on a server and a worker without a cluster", scenario!("bare")),
    full(
        "fuzz",
        "issue 5, 7 and issue 6, 5: parsers of outside bytes, ten minutes each, guided by coverage",
        &["xtask", "fuzz"],
    ),
    full(
        "crowd",
        "issue 6, 7: slow readers, waiters, bots, rubbish; the good client's p99 is held to five times its own",
        long_test!("GRID_CROWD=1", "grid-server", "crowd"),
    ),
    full(
        "fault-loop",
        "issue 8, 2: workers and runners killed at random for half an hour of Bazel builds",
        scenario!("fault-loop"),
    ),
    full("outputs", "issue 8, 4: outputs as REAPI asks for, beside buildbox-worker's", scenario!("outputs")),
    full("test-images", "issue 8, 1 and 7: the images of BuildBox and of Go", &["xtask", "test-images"]),
    full(
        "storage-kills",
        "issue 5, 2: the process over each durable store killed 200 times under load",
        long_test!("GRID_KILLS=200", "grid-cas", "conformance", "kills"),
    ),
    full(
        "import",
        "issue 5, 4: BuildGrid fills a bucket, Redis and PostgreSQL, ours takes them over, BuildGrid runs again",
        &["xtask", "import"],
    ),
    full(
        "buildstream-artifacts",
        "issue 5, 6 and B10: BuildStream pushes and pulls artifacts and sources",
        scenario!("buildstream-artifacts"),
    ),
    full("downloader", "issue 6, 2 and C6: Bazel's remote downloader", scenario!("downloader")),
    full("recc", "issue 8, 3 and E5: recc compiles and links", scenario!("recc")),
    full(
        "buildbox-worker",
        "issue 7, 6 and issue 8, 3: buildbox-worker as a bot of the grid",
        scenario!("buildbox-worker"),
    ),
    full("bgd", "issue 7, 6: BuildGrid's own bgd, on this machine", &["xtask", "bgd", "bgd"]),
    full(
        "sparc",
        "issue 7, 5: an action that no pool can run, told by grid why at once and by Bazel when the grace ends",
        scenario!("sparc"),
    ),
    full(
        "fairness",
        "issue 7, 4: 1,000 and 1,000 actions and 10 on 8 slots, in simulation",
        &["cargo", "test", "--locked", "-p", "grid-scheduler", "--test", "fairness"],
    ),
    full(
        "served",
        "issue 7, 4 and faults: the same on PostgreSQL and SQLite; quotas of three replicas; lost news, databases gone, slow, full",
        &["cargo", "test", "--locked", "-p", "grid-scheduler-sql", "--test", "served"],
    ),
    full(
        "outage",
        "issue 7, faults: PostgreSQL is gone for a minute in the middle of actions: nothing is lost, nothing runs twice",
        &[
            "env",
            "GRID_OUTAGE_SECONDS=60",
            "cargo",
            "test",
            "--locked",
            "-p",
            "grid-scheduler-sql",
            "--test",
            "served",
            "for_a_while",
        ],
    ),
    full(
        "buildbox-tools",
        "issue 5, 6: buildbox-casd before and behind the grid; BuildBox's tools",
        scenario!("buildbox-tools"),
    ),
    full(
        "nginx",
        "issue 6, C10: through Debian's nginx a quarter of an hour of silence, and 4 GiB as slowly",
        scenario!("nginx"),
    ),
    full("grpcurl", "issue 6, 2 and C8: grpcurl by reflection", scenario!("grpcurl")),
    full("remotetool", "issue 6, 2: remotetool and rexec of Bazel's Go SDK", scenario!("remotetool")),
    full(
        "buildstream",
        "issue 8, 3 and E5: BuildStream composes 33 elements, each built in a sandbox on the grid",
        scenario!("buildstream"),
    ),
    full(
        "persistent-workers",
        "issue 8, E7: persistent workers with a real Bazel, in both forms of the protocol",
        scenario!("persistent-workers"),
    ),
    full(
        "bazel-variants",
        "issue 6, C1 to C5: Bazel's flags, tests, an interruption, a server's crash in mid-build",
        scenario!("bazel-variants"),
    ),
    always("ingress", "issue 4, 2, 5 and 6: Bazel and recc through the TLS ingress", scenario!("ingress")),
    full(
        "sandboxes",
        "issue 4, A9 and issue 8, 3: BuildStream through the TLS ingress, in bubblewrap pods",
        scenario!("sandboxes"),
    ),
    full(
        "bgd-ingress",
        "issue 7, 6: BuildGrid's own bgd through the ingress, on pods of grid-worker and of buildbox-worker",
        &["xtask", "bgd", "bgd-ingress"],
    ),
    full("hostile", "issue 8, 1: hostile commands in pools of each isolation", scenario!("hostile")),
    full("from-scratch", "issue 8, 7: a toolchain image FROM scratch", scenario!("from-scratch")),
    full("buildbox-pool", "issue 8, 1 and E5: a pool of BuildBox", scenario!("buildbox-pool")),
    full("split", "issue 4, 3b: Bazel on services apart, behind one ingress", scenario!("split")),
    full(
        "postgres",
        "issue 4, 3d: Bazel on PostgreSQL with two replicas of each server",
        scenario!("postgres"),
    ),
    full("s3", "issue 5, 3: Bazel on a bucket that is cleaned beside the builds", scenario!("s3")),
    full("push", "issue 4, A8: the images in a registry", scenario!("push")),
    full("kills", "issue 4, 4: builds succeed while each pod in turn is killed", scenario!("kills")),
    full("one-pod", "issue 4, 4: the outage of the one-pod grid on SQLite", scenario!("one-pod")),
    full(
        "resume",
        "issue 6, 3: uploads, logs, build events, trees and waits go on on another replica, behind Traefik",
        scenario!("resume"),
    ),
    full(
        "traefik",
        "issue 6, C10: through the ingress a quarter of an hour of silence, and 4 GiB as slowly",
        scenario!("traefik"),
    ),
    full(
        "identities",
        "issue 6, 4: mutual TLS and tokens, keys and certificates replaced",
        scenario!("identities"),
    ),
    full("rotations", "issue 9, F9: secrets are replaced in mid-build", scenario!("rotations")),
    full("ailing", "issue 9, F11: an image that isn't there, and the support bundle", scenario!("ailing")),
    full("drain", "issue 9, F8: a node is cordoned in mid-build", scenario!("drain")),
    full(
        "scale",
        "issue 9, speed: an operator of 1,000 resources on the real API server",
        scenario!("scale"),
    ),
    full("backup", "issue 9, F6: restored from backups of different moments", scenario!("backup")),
    full("move", "issue 9, F6: a tier moves to another backend beside builds", scenario!("move")),
    full("chaos", "issue 9, 5: half an hour of random kills and stopped leaders", scenario!("chaos")),
    full("upgrade", "issue 9, 4: an earlier commit's release to this one and back", scenario!("upgrade")),
    full("big", "issue 9, 1: everything happens during 2,000 actions", scenario!("big")),
    full("chart", "issue 4, A6: helm install, test, upgrade, rollback, uninstall", scenario!("chart")),
    full(
        "chart-namespaced",
        "issue 9, 7 and F9: an operator of one namespace, in restricted namespaces, and the rights that it has not",
        scenario!("chart-namespaced"),
    ),
    full("chart-values", "issue 9, 7: values that the chart refuses", scenario!("chart-values")),
    full("broken", "issue 4, 5: broken manifests on the real API server", scenario!("broken")),
    full("cache-only", "issue 4, 3c: Bazel with a remote cache alone", scenario!("cache-only")),
    always(
        "cluster-down",
        "issue 4, A7: the cluster leaves nothing behind",
        &["cargo", "run", "--quiet", "--locked", "-p", "grid-e2e", "--", "down"],
    ),
    full(
        "deny",
        "issue 4, A1: licences, bans and sources of the dependencies",
        &["cargo", "deny", "--locked", "check", "licenses", "bans", "sources"],
    ),
];
