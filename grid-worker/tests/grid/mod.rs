//! A grid in a test: Bots, CAS and ByteStream in memory, with a real grid-worker and grid-runner beside it.
//!
//! As root the two run as two users, as in a pod; else both are the caller.

#![allow(dead_code, reason = "each test file uses its part")]

mod blobs;
pub(crate) mod events;
pub(crate) mod server;
pub(crate) mod tree;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use grid_proto::reapi::{Action, ActionResult, Command, command::EnvironmentVariable};
use grid_proto::rpc::Status;

use server::{FakeGrid, Served};
use tempfile::TempDir;
use tree::Tree;

pub(crate) const WORKER_UID: u32 = 65_531;
pub(crate) const RUNNER_UID: u32 = 65_533;
/// For what must happen, but has no other bound.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A grid with one worker.
pub(crate) struct Grid {
    pub(crate) server: FakeGrid,
    /// Where Bots are served.
    pub(crate) served: Served,
    /// Where the CAS is served.
    pub(crate) cas: Served,
    pub(crate) worker: Option<Child>,
    pub(crate) runner: Option<Child>,
    pub(crate) directory: TempDir,
    binaries: Arc<TempDir>,
    arguments: Vec<String>,
    runner_arguments: Vec<String>,
    /// A runner that is not ours.
    foreign_runner: Option<PathBuf>,
}

impl Drop for Grid {
    fn drop(&mut self) {
        for child in [&mut self.worker, &mut self.runner].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The two programs where every user can execute them: a target directory may lie under somebody's home. Where
/// `GRID_BINARIES` names a folder, those that are in it.
///
/// They are copied only while no grid of this test program is alive, for a process that is started during the
/// copy would keep them open for writing.
fn binaries() -> Arc<TempDir> {
    static SHARED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(binaries) = shared.upgrade() {
        return binaries;
    }
    let binaries = Arc::new(open_directory());
    let folder = std::env::var_os("GRID_BINARIES").map(PathBuf::from);
    for program in [env!("CARGO_BIN_EXE_grid-worker"), env!("CARGO_BIN_EXE_grid-runner")] {
        let program = Path::new(program);
        let name = program.file_name().unwrap();
        let program = folder.as_ref().map_or_else(|| program.to_owned(), |folder| folder.join(name));
        std::fs::copy(program, binaries.path().join(name)).unwrap();
    }
    *shared = Arc::downgrade(&binaries);
    binaries
}

fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

impl Grid {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts with more arguments for the worker.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        Self::isolated("plain", arguments).await
    }

    /// Starts with a mode of isolation, and more arguments for the worker.
    pub(crate) async fn isolated(isolation: &str, arguments: &[&str]) -> Self {
        Self::begin(None, &["--isolation", isolation], arguments).await
    }

    /// Starts with a runner that is not ours, and its own arguments.
    pub(crate) async fn with_runner(runner: &Path, runner_arguments: &[&str], arguments: &[&str]) -> Self {
        Self::begin(Some(runner.to_owned()), runner_arguments, arguments).await
    }

    async fn begin(foreign_runner: Option<PathBuf>, runner_arguments: &[&str], arguments: &[&str]) -> Self {
        let server = FakeGrid::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (served, cas) = (server.serve(any).await, server.serve(any).await);
        let (binaries, directory) = (binaries(), open_directory());
        for (name, uid) in
            [("build", WORKER_UID), ("cache", WORKER_UID), ("run", RUNNER_UID), ("signs", RUNNER_UID)]
        {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            if is_root() {
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
            }
        }
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (arguments, runner_arguments) = (owned(arguments), owned(runner_arguments));
        let mut grid = Self {
            server,
            served,
            cas,
            worker: None,
            runner: None,
            directory,
            binaries,
            arguments,
            runner_arguments,
            foreign_runner,
        };
        grid.start_runner();
        grid.start_worker();
        grid
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn start_runner(&mut self) {
        let ours = self.binaries.path().join("grid-runner");
        let mut process = Process::new(self.foreign_runner.as_ref().unwrap_or(&ours));
        if self.foreign_runner.is_none() {
            process.arg("serve");
        }
        process.arg("--socket").arg(self.path("run/socket"));
        process.arg("--build-dir").arg(self.path("build"));
        if is_root() && self.foreign_runner.is_none() {
            process.args(["--worker-uid", &WORKER_UID.to_string()]);
        }
        process.args(&self.runner_arguments);
        // Who changes its root must be root; the commands are not.
        let user = if self.runner_arguments.iter().any(|a| a == "chroot") { 0 } else { RUNNER_UID };
        self.runner = Some(spawn(&mut process, user));
    }

    pub(crate) fn start_worker(&mut self) {
        let mut process = Process::new(self.binaries.path().join("grid-worker"));
        process.args(["--bots", &format!("http://{}", self.served.address), "--name", "bot"]);
        process.args(["--cas", &format!("http://{}", self.cas.address)]);
        process.args(["--runner", &format!("unix:{}", self.path("run/socket").display())]);
        process.arg("--build-dir").arg(self.path("build")).arg("--cache-dir").arg(self.path("cache"));
        process.args(["--property", "OSFamily=linux"]);
        if !self.arguments.iter().any(|argument| argument == "--disk-reserve") {
            // Whatever else fills this machine's disk is none of the test's business.
            process.args(["--disk-reserve", "1000000"]);
        }
        process.args(&self.arguments);
        self.worker = Some(spawn(&mut process, WORKER_UID));
    }

    /// Runs a command over an input tree to its result.
    pub(crate) async fn run(&self, command: &Command, inputs: &Tree) -> (Status, ActionResult) {
        let lease = self.submit(command, inputs, |_| {});
        self.result(&lease).await
    }

    /// Queues a command; `edit` may change its action.
    pub(crate) fn submit(&self, command: &Command, inputs: &Tree, edit: impl FnOnce(&mut Action)) -> String {
        let input_root_digest = Some(self.server.put_tree(inputs));
        let command_digest = Some(self.server.put_message(command));
        let mut action = Action { command_digest, input_root_digest, ..Action::default() };
        edit(&mut action);
        self.server.put_message(&action);
        self.server.enqueue(&action)
    }

    pub(crate) async fn result(&self, lease: &str) -> (Status, ActionResult) {
        tokio::time::timeout(PATIENCE, self.server.result(lease)).await.expect("a result in time")
    }

    /// Waits until nothing of any action is left in the build directory.
    pub(crate) async fn swept(&self) {
        let build = self.path("build");
        let empty = || std::fs::read_dir(&build).unwrap().count() == 0;
        events::until(&build, "an empty build directory", empty).await;
    }

    /// A script that runs until it is killed, with processes that try to outlive it. All hold `word` in their
    /// arguments.
    pub(crate) fn endless(&self, word: &str) -> String {
        let sign = self.path("signs").join(word);
        format!(
            "sleep {word} & setsid sleep {word} & (sleep {word} &) ; trap '' TERM; : > {}; sleep {word}",
            sign.display()
        )
    }

    /// Waits until the script of [`Grid::endless`] runs.
    pub(crate) async fn begun(&self, word: &str) {
        let signs = self.path("signs");
        events::until(&signs, "the command's sign", || exists(&signs.join(word))).await;
    }
}

fn spawn(process: &mut Process, uid: u32) -> Child {
    if is_root() {
        process.uid(uid).gid(uid);
    }
    let level = std::env::var("GRID_TEST_LOG").unwrap_or_else(|_| "error".to_owned());
    process.env("RUST_LOG", level).stdin(Stdio::null()).spawn().unwrap()
}

/// A command of the shell with the usual PATH.
pub(crate) fn shell(script: &str) -> Command {
    let path = EnvironmentVariable { name: "PATH".to_owned(), value: "/usr/bin:/bin".to_owned() };
    Command {
        arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment_variables: vec![path],
        ..Command::default()
    }
}

/// A command of the shell with outputs.
pub(crate) fn making(script: &str, outputs: &[&str]) -> Command {
    Command { output_paths: outputs.iter().map(|o| (*o).to_owned()).collect(), ..shell(script) }
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
