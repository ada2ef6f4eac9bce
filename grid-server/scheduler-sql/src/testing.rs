//! Databases for tests: SQLite files, and a real PostgreSQL that the test process starts and ends by itself.
//!
//! Panics where a database can't be made: a test without one has nothing to say.
#![allow(clippy::expect_used, clippy::panic, reason = "for tests only")]

mod cpu;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::database::{Database, DatabaseOptions};
use crate::migrate::migrate;

pub use cpu::Cpu;

/// An SQLite database of the test's own, migrated, and the folder that it lies in for as long as it is held.
///
/// # Panics
/// Where it can't be made.
pub async fn sqlite() -> (Database, TempDir) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("grid.db");
    let database = Database::open_file(path, DatabaseOptions::default()).await.expect("an SQLite database");
    migrate(&database).await.expect("migrations");
    (database, folder)
}

/// A PostgreSQL database of the test's own, migrated, on an instance that this process's tests share.
///
/// # Panics
/// Where PostgreSQL is not installed (`apt-get install postgresql`) or does not start.
pub async fn postgres() -> Database {
    let database = Database::open(&postgres_url(), DatabaseOptions::default()).await.expect("a URL");
    migrate(&database).await.expect("migrations");
    database
}

/// The URL of a new, empty database.
///
/// # Panics
/// As [`postgres`].
pub fn postgres_url() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let instance = shared();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    instance.run("createdb", &["-h", &instance.folder_text(), "-p", &instance.port.to_string(), &name]);
    instance.url(&name)
}

fn shared() -> &'static Postgres {
    static INSTANCE: OnceLock<Postgres> = OnceLock::new();
    INSTANCE.get_or_init(|| Postgres::start(&["-F"]))
}

/// A PostgreSQL instance that ends with the process that started it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    /// Waits for its standard input to close, and then stops the instance and removes its folder.
    watchdog: Child,
}

impl Postgres {
    /// Starts an instance with these options of `postgres`.
    ///
    /// # Panics
    /// As [`postgres`].
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        let mut instance = Self::nowhere();
        let data = instance.data();
        let common = ["-A", "trust", "-U", "grid", "--no-sync", "-E", "UTF8", "-D"];
        instance.run("initdb", &[&common[..], &[&data]].concat());
        instance.launch(options);
        instance.watchdog = instance.watch();
        instance
    }

    /// A folder and a port for an instance.
    fn nowhere() -> Self {
        let folder = TempDir::with_prefix("grid-pg-").expect("a temporary folder").keep();
        let instance = Self { folder, port: free_port(), watchdog: idle() };
        if is_root() {
            let folder = instance.folder_text();
            assert!(run(Command::new("chown").args(["postgres", &folder])), "chown {folder}");
        }
        instance
    }

    /// The URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://grid@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database and gives its URL.
    ///
    /// # Panics
    /// Where the instance does not answer.
    #[must_use]
    pub fn create(&self, database: &str) -> String {
        self.run("createdb", &["-h", &self.folder_text(), "-p", &self.port.to_string(), database]);
        self.url(database)
    }

    /// The process of the server.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let text =
            std::fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("a server that runs");
        text.lines().next().and_then(|pid| pid.parse().ok()).expect("the number of its process")
    }

    /// Stops it at once, as a crash would.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn stop(&self) {
        self.run("pg_ctl", &["-w", "-m", "immediate", "-D", &self.data(), "stop"]);
    }

    /// A standby that follows it. From now on a commit waits until the standby has it too: nothing that was committed is lost
    /// when the standby takes over.
    ///
    /// # Panics
    /// Where it can't be made or does not follow.
    #[must_use]
    pub fn standby(&self, options: &[&str]) -> Self {
        let mut standby = Self::nowhere();
        let (host, port, data) = (self.folder_text(), self.port.to_string(), standby.data());
        let from = ["-h", &host, "-p", &port, "-D", &data, "-R", "-X", "stream", "-c", "fast", "--no-sync"];
        standby.run("pg_basebackup", &from);
        standby.launch(options);
        standby.watchdog = standby.watch();
        self.say("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.say("SELECT pg_reload_conf()");
        self.say(
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync') \
             LOOP PERFORM pg_sleep(0.05); END LOOP; END $$",
        );
        standby
    }

    /// Has a standby take its primary's place.
    ///
    /// # Panics
    /// Where it does not.
    pub fn promote(&self) {
        self.run("pg_ctl", &["-w", "-s", "-D", &self.data(), "promote"]);
    }

    /// The port that it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn say(&self, statement: &str) {
        let (host, port) = (self.folder_text(), self.port.to_string());
        self.run("psql", &["-q", "-h", &host, "-p", &port, "-d", "postgres", "-c", statement]);
    }

    /// Starts it again after [`Postgres::stop`], with these options of `postgres`.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn launch(&self, options: &[&str]) {
        let (port, folder) = (self.port, self.folder_text());
        let options = options.join(" ");
        let options = format!("-p {port} -k {folder} -h 127.0.0.1 -c max_connections=300 {options}");
        let log = self.folder.join("log").display().to_string();
        self.run("pg_ctl", &["-w", "-s", "-D", &self.data(), "-l", &log, "-o", &options, "start"]);
    }

    fn watch(&self) -> Child {
        let stop = format!("{} -m immediate -D {} stop", program("pg_ctl").display(), self.data());
        let stop = if is_root() { format!("runuser -u postgres -- {stop}") } else { stop };
        let script = format!("read _; {stop} >/dev/null 2>&1; rm -rf {}", self.folder.display());
        let mut watchdog = Command::new("setsid");
        watchdog.args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null());
        watchdog.stderr(Stdio::null()).spawn().expect("sh")
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn folder_text(&self) -> String {
        self.folder.display().to_string()
    }

    /// Runs one of PostgreSQL's programs, which refuse to be root.
    fn run(&self, name: &str, arguments: &[&str]) {
        let program = program(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        command.args(arguments).env("PGUSER", "grid").current_dir(&self.folder);
        assert!(run(&mut command), "{name} failed; see the output above");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // The watchdog has been told; whether it can be waited for changes nothing.
        let _ = self.watchdog.wait();
    }
}

/// Stands in for the watchdog until there is something to watch.
fn idle() -> Child {
    Command::new("true").stdin(Stdio::null()).spawn().expect("true")
}

fn run(command: &mut Command) -> bool {
    // The server that pg_ctl starts would hold an inherited pipe open for ever.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.expect("a program that is installed").success()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = versions.map(|v| v.path().join("bin").join(name)).filter(|p| p.exists()).max();
    installed.unwrap_or_else(|| Path::new(name).to_owned())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
