//! A Redis server for these tests, reachable by a port of its own; each test has a database of its own in it. Tests that
//! stop servers start one for themselves.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grid_cas::redis_client::{RedisConnection, RedisConnectionOptions};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::OnceCell;

static SHARED: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Runs the server, and kills it when our end of the pipe closes: with this process, however that ends.
const SCRIPT: &str = r#"
command -v redis-server >/dev/null || exit 127
redis-server "$@" 2>&1 &
exec >/dev/null
cat >/dev/null
kill -9 $!
wait
"#;

/// A server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    script: Child,
    log: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

/// A port that nobody has.
pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Server {
    pub(crate) async fn start(port: u16, more: &[&str]) -> Self {
        let mut server = Self::run(port, None, more);
        server.says("Ready to accept connections").await;
        server
    }

    /// Sentinels want a file that they can rewrite.
    pub(crate) async fn sentinel(port: u16, config: &str) -> Self {
        let mut server = Self::run(port, Some(config), &["--sentinel"]);
        server.says("+monitor").await;
        server
    }

    fn run(port: u16, config: Option<&str>, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "redis"]);
        if let Some(config) = config {
            let path = folder.path().join("redis.conf");
            std::fs::write(&path, config).unwrap();
            command.arg(path);
        }
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder.path());
        let mut script = command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(script.stdout.take().unwrap()).lines();
        Self { port, script, log, _folder: folder }
    }

    /// Waits until its log has a line with `what`.
    pub(crate) async fn says(&mut self, what: &str) {
        let said = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(what) {
                    return;
                }
            }
            panic!("Redis ended; these tests need it: apt-get install -y redis-server");
        };
        tokio::time::timeout(Duration::from_secs(60), said).await.unwrap();
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn end(mut self) {
        drop(self.script.stdin.take());
        self.script.wait().await.unwrap();
    }
}

pub(crate) fn options(port: u16, db: u32) -> RedisConnectionOptions {
    RedisConnectionOptions {
        host: "127.0.0.1".into(),
        port,
        password: None,
        db,
        sentinel_master: None,
        retries: 3,
        resp3: false,
        name: format!("storages[0] !redis-storage at 127.0.0.1:{port}").into(),
    }
}

/// A connection to an empty database.
pub(crate) async fn database() -> Arc<RedisConnection> {
    const MEMORY: [&str; 6] = ["--save", "", "--appendonly", "no", "--databases", "1000"];
    let port = free_port().await;
    let server = SHARED.get_or_init(|| Server::start(port, &MEMORY)).await;
    let number = DATABASES.fetch_add(1, Ordering::SeqCst);
    Arc::new(RedisConnection::new(options(server.port, number)))
}
