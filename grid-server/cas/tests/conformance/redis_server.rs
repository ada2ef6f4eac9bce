//! A Redis server for these tests, reachable by a port of its own; each test has a database of its own in it. Tests that
//! stop servers start one for themselves.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grid_cas::redis_client::{RedisConnection, RedisConnectionOptions};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

static SHARED: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Runs the server, and kills it when our end of the pipe closes: with this process, however that ends.
const SCRIPT: &str = r#"
command -v redis-server >/dev/null || exit 127
redis-server "$@" >/dev/null 2>&1 &
cat >/dev/null
kill -9 $!
wait
"#;

/// A server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    script: Child,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        self.script.wait().ok();
    }
}

/// A port that nobody has.
pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Server {
    pub(crate) async fn start(port: u16, more: &[&str]) -> Self {
        Self::run(port, None, more).await
    }

    /// Sentinels want a file that they can rewrite.
    pub(crate) async fn sentinel(port: u16, config: &str) -> Self {
        Self::run(port, Some(config), &["--sentinel"]).await
    }

    async fn run(port: u16, config: Option<&str>, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "redis"]);
        if let Some(config) = config {
            let path = folder.path().join("redis.conf");
            std::fs::write(&path, config).unwrap();
            command.arg(path);
        }
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(folder.path());
        let mut script = command.args(more).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // It says that it is ready by listening.
        let ready = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                let ended = script.try_wait().unwrap();
                assert!(ended.is_none(), "Redis is needed by these tests: apt-get install -y redis-server");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready).await.unwrap();
        Self { port, script, _folder: folder }
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
