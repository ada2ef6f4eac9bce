//! BuildGrid's own client commands, from its wheel, against a grid: on this machine, and on a cluster through its ingress.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::on_cluster::TestGrid;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::process::{Background, Output};
use crate::{environment, grid};

/// On a busy machine a command of Python takes a minute to begin.
const LIMIT: Duration = Duration::from_mins(10);

/// On a server and a worker of this machine.
///
/// # Errors
/// Where a command does not do what its user expects.
pub(crate) fn local() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let worker = Worker::start(dir.path(), &server, &Image::Clients(&cluster), &[])?;
    let place = Clients::new(&cluster, &dir.path().join("state"))?;
    Bgd::new(place, dir.path(), &["--remote", &server.address("http")], &[])?.all()?;
    worker.terminate()?;
    server.terminate()
}

/// On grids that the operator made, over TLS: on a pool of grid-workers, and on one of buildbox-workers.
///
/// # Errors
/// As [`local`].
pub(crate) fn through_ingress() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    on_pool(&cluster, "bgd-test", "buildgrid.yaml", &["-p", "toolchain", "gcc12"])?;
    cluster.load(&[environment::image("toolchain-buildbox")?])?;
    on_pool(&cluster, "bgd-buildbox-test", "buildbox.yaml", &["-p", "isolation", "buildbox"])
}

/// On the grid and the pool of an example; `platform` is what runs there.
fn on_pool(cluster: &Cluster, namespace: &'static str, example: &str, platform: &[&str]) -> Result<()> {
    let test = TestGrid::apply(cluster, namespace, &[], example)?;
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let place = test.reached_from(Clients::new(cluster, &dir.path().join("state"))?, "demo")?;
    let certificate = format!("{}/ca.crt", grid::CLIENT_FILES);
    let remote = format!("https://{namespace}.example.com:443");
    let options = ["--remote", &remote, "--server-cert", &certificate];
    Bgd::new(place, dir.path(), &options, platform)?.all()?;
    test.delete()
}

/// The commands, and what each needs to reach the grid.
struct Bgd<'a> {
    place: Clients<'a>,
    dir: PathBuf,
    program: String,
    remote: Vec<String>,
    /// What a command's platform is.
    platform: Vec<String>,
}

impl<'a> Bgd<'a> {
    /// `GRID_BUILDGRID` names the folder of BuildGrid's programs, and Python is where its environment says.
    fn new(place: Clients<'a>, dir: &Path, remote: &[&str], platform: &[&str]) -> Result<Self> {
        let programs = std::env::var_os("GRID_BUILDGRID").map(PathBuf::from);
        let programs = programs.context(
            "set GRID_BUILDGRID to the folder of BuildGrid's programs, as `cargo xtask test --full bgd` does",
        )?;
        let python =
            programs.join("python").canonicalize().context("BuildGrid's environment has no python")?;
        let environment = programs.parent().context("GRID_BUILDGRID is no folder of an environment")?;
        let home = python.parent().and_then(Path::parent).context("Python has no home")?;
        let inputs = dir.join("inputs");
        std::fs::create_dir(&inputs)?;
        std::fs::write(inputs.join("in.txt"), "an input\n")?;
        let same = |path: &Path| path.display().to_string();
        let place = place
            .bind(environment, &same(environment))
            .bind(home, &same(home))
            .bind(&inputs, "/inputs")
            .env("PYTHONUNBUFFERED", "1");
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let program = same(&programs.join("bgd"));
        Ok(Self { place, dir: dir.to_path_buf(), program, remote: own(remote), platform: own(platform) })
    }

    fn all(&self) -> Result<()> {
        self.executes()?;
        self.follows_lists_and_cancels()?;
        self.is_told_what_is_wrong()
    }

    /// `bgd GROUP CONNECTION REST`.
    fn words<'w>(&'w self, group: &'w str, rest: &[&'w str]) -> Vec<&'w str> {
        let connection = self.remote.iter().map(String::as_str);
        [self.program.as_str(), group].into_iter().chain(connection).chain(rest.iter().copied()).collect()
    }

    /// Words that have a shell run a script on the grid.
    fn script<'w>(&'w self, options: &[&'w str], script: &'w str) -> Vec<&'w str> {
        let platform: Vec<&str> = self.platform.iter().map(String::as_str).collect();
        self.words(
            "execute",
            &[&["command"], options, &platform, &["/inputs", "--", "/bin/sh", "-c", script]].concat(),
        )
    }

    fn succeed(&self, group: &str, rest: &[&str]) -> Result<Output> {
        self.place.succeed("/tmp", &self.words(group, rest))
    }

    /// A command has its inputs, and its outputs come back.
    fn executes(&self) -> Result<()> {
        let options = ["--output-file", "out.txt", "--output-directory", "/tmp/out"];
        self.place.succeed("/tmp", &self.script(&options, "cat in.txt in.txt > out.txt"))?;
        let back = self.place.succeed("/tmp", &["cat", "/tmp/out/out.txt"])?;
        ensure!(back.count("an input") == 2, "the output came back as {:?}", back.text);
        Ok(())
    }

    /// An operation that runs is listed by filters, its status told; one that is waited for ends, one that is cancelled
    /// ends as cancelled, and its client hears of it.
    fn follows_lists_and_cancels(&self) -> Result<()> {
        let script = self.script(&[], "sleep 600");
        let mut waits = Background::start(
            "bgd",
            &mut self.place.command("/tmp", &script),
            &self.dir.join("execute.log"),
        )?;
        let name = self.only("stage = EXECUTING", &mut waits)?;
        ensure!(self.names("stage = QUEUED")?.is_empty(), "what runs is listed as queued");
        ensure!(
            self.names("stage = EXECUTING & platform = OSFamily:plan9")?.is_empty(),
            "a filter was ignored"
        );
        let sorted = self.names("stage = EXECUTING & sort_order = queued_time(desc)")?;
        ensure!(sorted == [name.clone()], "a filter with an order lists {sorted:?}");
        self.succeed("operation", &["status", &name])?.expect("Executing")?;

        let wait = self.words("operation", &["wait", &name]);
        let mut follows = Background::start(
            "bgd wait",
            &mut self.place.command("/tmp", &wait),
            &self.dir.join("wait.log"),
        )?;
        follows.wait_for("xecuting", LIMIT)?;
        self.succeed("operation", &["cancel", &name])?;
        // It prints the stage of what is over, and 1 is the code of what was cancelled.
        follows.wait_for("stage=4", LIMIT).context("who waits did not hear of the cancellation")?;
        waits.wait_for("code: 1", LIMIT).context("who executes did not hear of the cancellation")?;
        ensure!(self.names("stage = EXECUTING")?.is_empty(), "what was cancelled is listed as running");
        Ok(())
    }

    /// A filter that is wrong is answered with where.
    fn is_told_what_is_wrong(&self) -> Result<()> {
        let output = self.place.fail("/tmp", &self.words("operation", &["list", "--filter", "stage ~ x"]))?;
        output.expect("position 7")
    }

    /// The names of the operations that a filter shows: each line is `STATE: NAME: …`.
    fn names(&self, filter: &str) -> Result<Vec<String>> {
        let list = self.succeed("operation", &["list", "--filter", filter])?;
        let shown = list.text.lines().filter(|line| line.contains("(stage="));
        Ok(shown.filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect())
    }

    /// The one operation that a filter shows, once it does, as long as its client waits.
    fn only(&self, filter: &str, client: &mut Background) -> Result<String> {
        let end = std::time::Instant::now() + LIMIT;
        while std::time::Instant::now() < end {
            if let [name] = self.names(filter)?.as_slice() {
                return Ok(name.clone());
            }
            client.ensure_running().context("whoever asked for the operation has gone")?;
        }
        let all = self.succeed("operation", &["list"])?.text;
        let worker = std::fs::read_to_string(self.dir.join("worker.log")).unwrap_or_default();
        anyhow::bail!(
            "not one operation was shown by {filter:?} within {} s; all that wait or run:\n{all}\nthe worker says:\n{worker}",
            LIMIT.as_secs()
        )
    }
}
