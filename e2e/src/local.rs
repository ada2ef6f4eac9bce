//! A grid without a cluster: the server, and workers with their runners, as processes of this machine on free ports.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clients::Clients;
use crate::environment;
use crate::gridcluster::Cluster;
use crate::process::Background;
use crate::reference;

const START: Duration = Duration::from_secs(60);
/// The user of a runner that is not the worker's.
const RUNNER: u32 = 65_533;

/// A grid-server, and what it takes to start it once more.
pub(crate) struct Server {
    process: Option<Background>,
    dir: PathBuf,
    configuration: PathBuf,
    authority: String,
}

impl Server {
    /// Starts a server whose state lies in `dir`, with a configuration of `e2e/projects` that leaves the port open.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub(crate) fn start(dir: &Path, configuration: &str) -> Result<Self> {
        let configuration = environment::root().join("e2e/projects").join(configuration);
        let mut server =
            Self { process: None, dir: dir.to_path_buf(), configuration, authority: String::new() };
        server.serve()?;
        Ok(server)
    }

    /// The server's address, as `SCHEME://HOST:PORT`: clients differ in what they call the scheme.
    pub(crate) fn address(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.authority)
    }

    /// Ends the server at once, as a crash would, and starts it again on the same port and the same state.
    ///
    /// # Errors
    /// Where it does not get ready again.
    pub(crate) fn crash_and_return(&mut self) -> Result<()> {
        drop(self.process.take());
        let text = std::fs::read_to_string(&self.configuration)?;
        self.configuration = self.dir.join("same-port.yml");
        std::fs::write(&self.configuration, text.replace("127.0.0.1:0", &self.authority))?;
        self.serve()
    }

    /// Asks the server to end, which it must do with exit code 0.
    ///
    /// # Errors
    /// Where it ends otherwise.
    pub(crate) fn terminate(mut self) -> Result<()> {
        let process = self.process.take().context("the server does not run")?;
        anyhow::ensure!(process.terminate()? == Some(0), "grid-server did not end with 0 on SIGTERM");
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let mut command = Command::new(environment::binaries()?.join("grid-server"));
        command
            .args(["serve", "--admin", "127.0.0.1:0"])
            .arg(&self.configuration)
            .current_dir(&self.dir)
            .env("XDG_STATE_HOME", self.dir.join("state-home"))
            .env("XDG_CONFIG_HOME", self.dir.join("config-home"));
        let mut server = Background::start("grid-server", &mut command, &self.dir.join("server.log"))?;
        let line = server.wait_for("serving on ", START)?;
        server.wait_for("readiness: ready", START)?;
        let (_, address) = line.split_once("://").context("the server does not say where it serves")?;
        self.authority = address.trim().to_owned();
        self.process = Some(server);
        Ok(())
    }
}

/// What a worker's runner takes as `/`, and how it keeps commands apart.
pub(crate) enum Image<'a> {
    /// A toolchain's root file system; commands see all of it.
    Toolchain(&'a Path),
    /// The root file system that the clients are in; commands see all of it.
    Clients(&'a Cluster),
    /// The same, with a runner that is another user than the worker, as in a pod: inputs are linked.
    Apart(&'a Cluster),
    /// The same, with the compiler of a toolchain's root file system.
    Compiler(&'a Cluster, &'a Path),
    /// The same, but commands see their input root alone, as their `/`.
    Sandbox(&'a Cluster),
}

/// A grid-worker and its grid-runner: what a pod makes of two containers.
pub(crate) struct Worker {
    worker: Program,
    runner: Program,
}

/// A program that can be started once more.
struct Program {
    name: &'static str,
    command: Command,
    log: PathBuf,
    /// What it says once it does its work.
    ready: &'static str,
    process: Option<Background>,
}

impl Program {
    fn start(name: &'static str, command: Command, log: PathBuf, ready: &'static str) -> Result<Self> {
        let mut program = Self { name, command, log, ready, process: None };
        program.restart()?;
        Ok(program)
    }

    /// Kills what runs, and starts it again.
    fn restart(&mut self) -> Result<()> {
        drop(self.process.take());
        let mut process = Background::start(self.name, &mut self.command, &self.log)?;
        process.wait_for(self.ready, START)?;
        self.process = Some(process);
        Ok(())
    }
}

impl Worker {
    /// Starts a worker of two slots in `dir`, which offers `properties` and belongs to `server`.
    ///
    /// # Errors
    /// Where it does not prove itself.
    pub(crate) fn start(dir: &Path, server: &Server, image: &Image<'_>, properties: &[&str]) -> Result<Self> {
        Self::start_with(dir, server, image, properties, &[])
    }

    /// The same, with more arguments for the worker.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub(crate) fn start_with(
        dir: &Path,
        server: &Server,
        image: &Image<'_>,
        properties: &[&str],
        more: &[&str],
    ) -> Result<Self> {
        let work = dir.join("worker");
        for folder in ["build", "cache", "run"] {
            std::fs::create_dir_all(work.join(folder))?;
        }
        let command = match image {
            Image::Toolchain(root) => in_toolchain(&work, root)?,
            Image::Clients(cluster) => in_clients(&clients(&work, cluster, dir)?, "plain"),
            Image::Apart(cluster) => {
                std::os::unix::fs::chown(work.join("run"), Some(RUNNER), Some(RUNNER))?;
                apart(&clients(&work, cluster, dir)?)
            }
            Image::Compiler(cluster, root) => {
                let place = clients(&work, cluster, dir)?;
                in_clients(&reference::compiling(place, root, dir, &[(&work, "/grid")])?, "plain")
            }
            Image::Sandbox(cluster) => in_clients(&clients(&work, cluster, dir)?, "bubblewrap"),
        };
        let runner = Program::start("grid-runner", command, dir.join("runner.log"), "serving")?;
        let mut command = Command::new(environment::binaries()?.join("grid-worker"));
        command.args(["--bots", &server.address("http"), "--concurrency", "2", "--admin", "127.0.0.1:0"]);
        command.args(more);
        for property in properties {
            command.args(["--property", property]);
        }
        command.arg("--runner").arg(format!("unix:{}", work.join("run/runner.sock").display()));
        command.arg("--build-dir").arg(work.join("build")).arg("--cache-dir").arg(work.join("cache"));
        let log = dir.join("worker.log");
        let worker = Program::start("grid-worker", command, log, "the worker is proved")?;
        Ok(Self { worker, runner })
    }

    /// Kills the worker as a crash would, and starts it again.
    ///
    /// # Errors
    /// Where it does not prove itself again.
    pub(crate) fn restart_worker(&mut self) -> Result<()> {
        self.worker.restart()
    }

    /// Kills the runner with all that it runs, and starts it again.
    ///
    /// # Errors
    /// Where it does not serve again.
    pub(crate) fn restart_runner(&mut self) -> Result<()> {
        self.runner.restart()
    }

    /// Asks the worker to end, which it must do with exit code 0.
    ///
    /// # Errors
    /// Where it ends otherwise.
    pub(crate) fn terminate(mut self) -> Result<()> {
        let worker = self.worker.process.take().context("the worker does not run")?;
        anyhow::ensure!(worker.terminate()? == Some(0), "grid-worker did not end with 0 on SIGTERM");
        Ok(())
    }
}

/// The root file system that the clients are in, with the worker's folder.
fn clients<'a>(work: &Path, cluster: &'a Cluster, dir: &Path) -> Result<Clients<'a>> {
    let place = Clients::new(cluster, &dir.join("runner"))?;
    Ok(place.bind(work, "/grid").bind(&environment::binaries()?, "/grid-bin"))
}

const SERVE: [&str; 6] =
    ["/grid-bin/grid-runner", "serve", "--socket", "/grid/run/runner.sock", "--build-dir", "/grid/build"];

/// The runner in that place.
fn in_clients(place: &Clients<'_>, isolation: &str) -> Command {
    place.command("/", &[&SERVE[..], &["--isolation", isolation, "--allow-network"]].concat())
}

/// The runner in that place, as another user than the worker.
fn apart(place: &Clients<'_>) -> Command {
    let user = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"];
    place.command("/", &[&user[..], &SERVE, &["--worker-uid", "0"]].concat())
}

/// The runner in a toolchain's root file system, in which the worker's folder and the runner appear.
fn in_toolchain(work: &Path, root: &Path) -> Result<Command> {
    let inside = |path: &Path| -> PathBuf { root.join(path.strip_prefix("/").unwrap_or(path)) };
    let script = "set -e
        mkdir -p \"$1$2\" \"$1/grid-bin\"
        mount --bind \"$2\" \"$1$2\"
        mount --bind \"$3\" \"$1/grid-bin\"
        mount -t proc proc \"$1/proc\"
        mount --rbind /dev \"$1/dev\"
        exec chroot \"$1\" /grid-bin/grid-runner serve --socket \"$2/run/runner.sock\" --build-dir \"$2/build\"";
    std::fs::create_dir_all(inside(work))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["sh", "-c", script, "runner"]).arg(root).arg(work).arg(environment::binaries()?);
    Ok(command)
}
