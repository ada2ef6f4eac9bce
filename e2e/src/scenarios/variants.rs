//! What flags of Bazel change in what a grid is asked: downloads, digests, compression, events, priorities, tests and their
//! retries, interruption, a server that crashes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::process::{self, Background, Output};
use crate::{bazel, environment};

const LIMIT: Duration = Duration::from_secs(300);
/// The actions of `//:sum`.
const STEPS: usize = 7;
/// What `cksum` says of the parts' numbers.
const SUM: &str = "1537513724 7733475";
/// Bazel needs no registry for what the project uses.
pub(super) const ALWAYS: &[&str] = &[
    "--color=no",
    "--noenable_bzlmod",
    "--enable_workspace",
    "--override_repository=rules_cc=/usr/share/bazel/rules/cc",
    "--override_repository=bazel_skylib=/usr/share/bazel/tools/skylib",
    "--override_repository=rules_python=/usr/share/bazel/rules/python",
    "--remote_default_exec_properties=OSFamily=linux",
];

/// Every variant of a build does what its user may expect.
///
/// # Errors
/// Where one does not.
pub(crate) fn bazel() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let mut server = Server::start(dir.path(), "variants/server.yml")?;
    let worker = Worker::start(dir.path(), &server, &Image::Clients(&cluster), &[])?;
    let project = bazel::lay_out("variants", dir.path())?;
    let place = Clients::new(&cluster, &dir.path().join("state"))?.bind(&project, "/src");
    let remote = format!("--remote_executor={}", server.address("grpc"));
    let build = Build { place, remote };

    build.downloads_and_events(&server)?;
    build.other_digests()?;
    build.packed(&server)?;
    build.tests()?;
    build.unknown_property()?;
    build.local_race()?;
    build.interrupted(dir.path())?;
    build.crash(dir.path(), &mut server)?;
    worker.terminate()?;
    server.terminate()
}

struct Build<'a> {
    place: Clients<'a>,
    remote: String,
}

impl Build<'_> {
    /// Bazel's words for a command; the output base decides what Bazel remembers.
    fn words<'w>(&'w self, startup: &[&'w str], verb: &'w str, rest: &[&'w str]) -> Vec<&'w str> {
        [&["bazel"], startup, &[verb, self.remote.as_str()], ALWAYS, rest].concat()
    }

    fn run(&self, startup: &[&str], verb: &str, rest: &[&str]) -> Result<Output> {
        let rest = [&["--noshow_progress"], rest].concat();
        self.place.succeed("/src", &self.words(startup, verb, &rest))
    }

    fn fail(&self, startup: &[&str], verb: &str, rest: &[&str]) -> Result<Output> {
        let rest = [&["--noshow_progress"], rest].concat();
        self.place.fail("/src", &self.words(startup, verb, &rest))
    }

    /// Nothing but what is asked for is downloaded; events are streamed; a clean second build has hits alone, and the
    /// file that a user wants of it is right.
    fn downloads_and_events(&self, server: &Server) -> Result<()> {
        let events = format!("--bes_backend={}", server.address("grpc"));
        let minimal = ["--remote_download_minimal", "--remote_execution_priority=5", &events, "//:sum"];
        let first = self.run(&["--output_base=/tmp/minimal"], "build", &minimal)?;
        bazel::summary(&first)?.expect_remote(STEPS)?;
        self.place.fail("/src", &["cat", "bazel-bin/part1.txt"])?;
        let lease = ["--experimental_remote_cache_lease_extension", "--experimental_remote_cache_ttl=60s"];
        let toplevel = [&lease[..], &["--remote_download_toplevel", "//:sum"]].concat();
        let second = self.run(&["--output_base=/tmp/toplevel"], "build", &toplevel)?;
        bazel::summary(&second)?.expect_all_hits(STEPS)?;
        self.place.succeed("/src", &["cat", "bazel-bin/sum.txt"])?.expect(SUM)
    }

    /// SHA-1 digests are other blobs and other actions, with the same outputs. (Debian's Bazel lacks BLAKE3's library.)
    fn other_digests(&self) -> Result<()> {
        let startup = ["--output_base=/tmp/digests", "--digest_function=sha1"];
        let first = self.run(&startup, "build", &["//:sum"])?;
        bazel::summary(&first)?.expect_remote(STEPS)?;
        self.place.succeed("/src", &["cat", "bazel-bin/sum.txt"])?.expect(SUM)?;
        let startup = ["--output_base=/tmp/digests-again", "--digest_function=sha1"];
        bazel::summary(&self.run(&startup, "build", &["//:sum"])?)?.expect_all_hits(STEPS)
    }

    /// Blobs go packed by zstd both ways, up from a local action and down from the cache. (Debian's Bazel has to be told where
    /// its library for that is.)
    fn packed(&self, server: &Server) -> Result<()> {
        let arch = std::env::consts::ARCH;
        let library = format!("--host_jvm_args=-Djava.library.path=/usr/lib/{arch}-linux-gnu");
        let cache = format!("--remote_cache={}", server.address("grpc"));
        for (base, kind) in [("/tmp/packed", "1 local"), ("/tmp/packed-again", "1 remote cache hit")] {
            let log = format!("{base}.log");
            let (base, logged) = (format!("--output_base={base}"), format!("--remote_grpc_log={log}"));
            let flags =
                ["--remote_executor=", &cache, &logged, "--spawn_strategy=local", "--remote_download_all"];
            let flags = [&flags[..], &["--remote_cache_compression", "//:packed"]].concat();
            self.run(&[&base, &library], "build", &flags)?.expect(kind)?;
            self.place.succeed("/src", &["grep", "-aq", "compressed-blobs/zstd", &log])?;
        }
        self.place.succeed("/src", &["tail", "-n", "1", "bazel-bin/packed.txt"])?.expect("300000")
    }

    /// A test that fails is tried again and fails with what it printed; one that passes is cached.
    fn tests(&self) -> Result<()> {
        let startup = ["--output_base=/tmp/tests"];
        let flags = ["--test_output=errors", "--flaky_test_attempts=2", "//:passing", "//:failing"];
        let failed = self.fail(&startup, "test", &flags)?;
        failed.expect("FAILED in 2 out of 2")?;
        failed.expect("this is failing")?;
        failed.expect("1 test passes and 1 fails remotely")?;
        let again = self.run(&["--output_base=/tmp/tests-again"], "test", &["//:passing"])?;
        again.expect("(cached) PASSED")
    }

    /// An action that asks for a property which no pool knows fails at once, and its user reads which.
    fn unknown_property(&self) -> Result<()> {
        self.fail(&["--output_base=/tmp/tests"], "build", &["//:unknown"])?.expect("colour")
    }

    /// Local and remote execution race for each action; whoever wins, the outputs are right.
    fn local_race(&self) -> Result<()> {
        let flags = ["--internal_spawn_scheduler", "--spawn_strategy=dynamic", "--strategy=Genrule=dynamic"];
        let flags =
            [&flags[..], &["--dynamic_local_strategy=standalone", "--noremote_accept_cached", "//:sum"]];
        self.run(&["--output_base=/tmp/race"], "build", &flags.concat())?;
        self.place.succeed("/src", &["cat", "bazel-bin/sum.txt"])?.expect(SUM)
    }

    /// A build that its user interrupts ends at once, and runs through when it is started again.
    fn interrupted(&self, dir: &Path) -> Result<()> {
        let fifo = dir.join("project/interrupt");
        process::run(Command::new("mkfifo").arg(&fifo))?;
        let words = self.progress(&["--output_base=/tmp/interrupted"], "//:slow");
        let script = "\"$@\" & read -r now <interrupt; kill -INT $!; wait $!; echo \"ended with $?\"";
        let words = [&["sh", "-c", script, "sh"], &words[..]].concat();
        let mut build =
            Background::start("bazel", &mut self.place.command("/src", &words), &dir.join("bazel.log"))?;
        build.wait_for("remote", LIMIT)?;
        std::fs::write(&fifo, "now\n")?;
        // 8 is what Bazel ends with when it is interrupted.
        build.wait_for("ended with 8", LIMIT)?;
        drop(build);
        self.run(&["--output_base=/tmp/interrupted"], "build", &["//:slow"]).map(drop)
    }

    /// The server is killed while actions run, and comes back: the build goes on and succeeds.
    fn crash(&self, dir: &Path, server: &mut Server) -> Result<()> {
        let words = self.progress(&["--output_base=/tmp/crash"], "//:slow");
        let words = [&words[..], &["--noremote_accept_cached", "--remote_retries=20"]].concat();
        let mut build =
            Background::start("bazel", &mut self.place.command("/src", &words), &dir.join("bazel.log"))?;
        build.wait_for("remote", LIMIT)?;
        server.crash_and_return()?;
        let summary = build.wait_for("processes: ", LIMIT).context("the build did not outlive the server")?;
        ensure!(summary.contains(" remote"), "nothing ran remotely: {summary}");
        build.wait_for("Build completed successfully", LIMIT).map(drop)
    }

    /// Words for a build that prints a line when an action starts to run remotely.
    fn progress<'w>(&'w self, startup: &[&'w str], target: &'w str) -> Vec<&'w str> {
        let shown = ["--curses=no", "--show_progress_rate_limit=0", target];
        self.words(startup, "build", &shown)
    }
}
