//! One PostgreSQL for all tests of this process, on a socket of its own; each test gets a database of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use grid_core::{Coded as _, ErrorCode};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;

/// Starts the server, says where its socket is, and stops it when our end of the pipe closes: with this process, however
/// that ends.
const SCRIPT: &str = r#"
set -e
folder=$(mktemp -d)
"$1/initdb" -D "$folder/data" -A trust -U postgres --no-sync >"$folder/log" 2>&1
"$1/pg_ctl" -D "$folder/data" -w -l "$folder/log" start \
    -o "-k $folder -c listen_addresses= -c fsync=off -c max_connections=300" >/dev/null
echo "$folder"
cat >/dev/null || true
"$1/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null
rm -rf "$folder"
"#;

struct Server {
    socket: PathBuf,
    // Its standard input is what keeps the server up.
    _script: Child,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// PostgreSQL's programs: in the path, or where Debian puts them.
fn programs() -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&paths).chain(debian.map(|entry| entry.path().join("bin")));
    let found = folders.into_iter().find(|folder| folder.join("pg_ctl").exists());
    found.unwrap_or_else(|| panic!("PostgreSQL is needed by these tests: apt-get install -y postgresql"))
}

fn start() -> Server {
    // The server refuses to run as root.
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let mut command = Command::new(if root { "runuser" } else { "sh" });
    if root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    command.args(["-c", SCRIPT, "postgres"]).arg(programs());
    let mut script = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut socket = String::new();
    BufReader::new(script.stdout.take().unwrap()).read_line(&mut socket).unwrap();
    assert!(!socket.is_empty(), "PostgreSQL did not start");
    Server { socket: socket.trim().into(), _script: script }
}

/// An empty database with the migrations of this crate.
pub(crate) async fn database() -> PgPool {
    open(&place().await).await
}

/// Where an empty database with the migrations of this crate is, for [`open`] in this process or another.
pub(crate) async fn place() -> String {
    let server = SERVER.get_or_init(|| async { tokio::task::spawn_blocking(start).await.unwrap() }).await;
    let name = format!("test{}", DATABASES.fetch_add(1, Ordering::SeqCst));
    let place = |name: &str| format!("{};{name}", server.socket.display());
    let mut admin = PgConnection::connect_with(&options(&place("postgres"))).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    let mut made = PgConnection::connect_with(&options(&place(&name))).await.unwrap();
    for migration in [
        include_str!("../../../../migrations/postgres/0201_cas_index.sql"),
        include_str!("../../../../migrations/postgres/0203_sql_storage.sql"),
        include_str!("../../../../migrations/postgres/0204_cas_turns.sql"),
        include_str!("../../../../migrations/postgres/0205_cas_taken_over.sql"),
        include_str!("../../../../migrations/postgres/0206_cas_cleanup.sql"),
    ] {
        sqlx::raw_sql(migration).execute(&mut made).await.unwrap();
    }
    place(&name)
}

fn options(place: &str) -> PgConnectOptions {
    let (socket, name) = place.split_once(';').unwrap();
    PgConnectOptions::new().socket(socket).username("postgres").database(name)
}

/// The database at a place.
pub(crate) async fn open(place: &str) -> PgPool {
    PgPoolOptions::new().max_connections(8).connect_with(options(place)).await.unwrap()
}

/// What the database says with these codes, and whether it is to be tried again.
#[tokio::test]
async fn what_a_database_says_is_to_be_retried_exactly_where_that_helps() {
    let pool = database().await;
    let said = async |code: &str| {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'said' USING ERRCODE = '{code}'; END $$");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(raise)).execute(&pool).await.unwrap_err();
        grid_cas::sql::error(&"caches[0] at postgresql://db".into(), &error)
    };
    // An administrator's shutdown, a deadlock, too many connections, no memory, a lock's time, a standby.
    for code in ["57P01", "40P01", "53300", "53200", "55P03", "25006", "57014", "08006"] {
        let error = said(code).await;
        assert!(error.code().is_transient() && error.retry_after().is_some(), "{code}: {error}");
    }
    for (code, remedy) in [
        ("28P01", "the password of `connection-string`"),
        ("3D000", "create the database"),
        ("42501", "let this user"),
        ("42P01", "grid-server migrate"),
    ] {
        let error = said(code).await;
        assert!(!error.code().is_transient() && error.retry_after().is_none(), "{code}: {error}");
        assert!(error.to_string().starts_with("caches[0] at postgresql://db refuses: "), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
    assert_eq!(said("53100").await.code(), ErrorCode::ResourceExhausted);
    assert_eq!(said("22012").await.code(), ErrorCode::Internal);
}

#[tokio::test]
async fn a_full_file_is_said_to_be_full() {
    let mut file = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let small = "PRAGMA max_page_count = 4; CREATE TABLE blobs (data BLOB)";
    sqlx::raw_sql(small).execute(&mut file).await.unwrap();
    let large = "INSERT INTO blobs VALUES (randomblob(100000))";
    let error = sqlx::raw_sql(large).execute(&mut file).await.unwrap_err();
    assert_eq!(grid_cas::sql::error(&"storages[0]".into(), &error).code(), ErrorCode::ResourceExhausted);
}
