//! BuildGrid's client commands, by the name `bgd`, against a server as a user starts it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use grid_proto::buildgrid::ListWorkersRequest;
use grid_proto::buildgrid::introspection_client::IntrospectionClient;
use serde_json::Value;
use support::Server;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long a command may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with `bgd` in it, and the server that it talks to.
struct Client {
    folder: tempfile::TempDir,
    options: Vec<String>,
}

impl Client {
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_grid-server"), folder.path().join("bgd")).unwrap();
        Self { folder, options: options.iter().map(ToString::to_string).collect() }
    }

    fn of(server: &Server) -> Self {
        Self::new(&["--remote", server.address()])
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, line: &str, input: &str) -> (i32, String, String) {
        let mut words = line.split(' ');
        let group = words.next().unwrap();
        let mut child = Command::new(self.path("bgd"))
            .arg(group)
            .args(&self.options)
            .args(words)
            .current_dir(self.folder.path())
            .env_clear()
            .env("XDG_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("no end of: {line}")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The output of a command that must succeed.
    async fn ok(&self, line: &str) -> String {
        let (code, out, err) = self.run(line, "").await;
        assert_eq!(code, 0, "{line}\n{out}\n{err}");
        out
    }

    /// What a command says as one JSON document.
    async fn json(&self, line: &str) -> Value {
        let out = self.ok(&format!("{line} --json")).await;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}\n{out}"))
    }
}

fn digest_of(path: &Path) -> String {
    let digest = support::digest(&std::fs::read(path).unwrap());
    format!("{}/{}", digest.hash, digest.size_bytes)
}

#[tokio::test]
async fn blobs_and_directories_go_to_the_server_and_come_back() {
    let server = Server::start("").await;
    let client = Client::of(&server);
    let content: Vec<u8> = (0_u32..1 << 20).flat_map(u32::to_le_bytes).collect();
    std::fs::create_dir_all(client.path("src/inner")).unwrap();
    std::fs::write(client.path("src/large"), &content).unwrap();
    std::fs::write(client.path("src/inner/small"), "small").unwrap();
    client.ok("cas upload-file src/large --verify").await;
    let digest = digest_of(&client.path("src/large"));
    client.ok(&format!("cas download-file {digest} back")).await;
    assert_eq!(std::fs::read(client.path("back")).unwrap(), content);

    let out = client.ok("cas upload-dir src").await;
    let root = out.split_whitespace().find(|word| word.contains('/') && word.len() > 64).unwrap();
    client.ok(&format!("cas download-dir {root} copy --verify")).await;
    assert_eq!(std::fs::read(client.path("copy/large")).unwrap(), content);
    assert_eq!(std::fs::read_to_string(client.path("copy/inner/small")).unwrap(), "small");

    let absent = format!("{}/7", "0".repeat(64));
    let (code, _, err) = client.run(&format!("cas download-file {absent} never"), "").await;
    assert!(code != 0 && err.contains("not found") && !client.path("never").exists(), "{code}: {err}");
    server.stop().await;
}

#[tokio::test]
async fn actions_run_and_their_results_are_shown() {
    let server = Server::start("").await;
    let client = Client::of(&server);
    let offered = client.json("capabilities").await;
    assert!(offered.to_string().contains("SHA256"), "{offered}");

    client.ok("cas upload-dummy").await;
    let channel = server.channel().await;
    let bot = tokio::spawn(support::run_one_lease(channel.clone(), 0));
    let ran = client.run("execute request-dummy --wait-for-completion", "").await;
    assert_eq!(ran.0, 0, "{ran:?}");
    bot.await.unwrap();
    let listed = client.ok("operation list --filter stage=COMPLETED --json").await;
    let operation: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let name = operation["name"].as_str().unwrap();
    assert_eq!(client.json(&format!("operation status {name}")).await["done"], true);
    client.ok(&format!("operation wait {name}")).await;

    std::fs::create_dir(client.path("src")).unwrap();
    let bot = tokio::spawn(support::run_one_lease(channel.clone(), 7));
    let ran = client.run("execute command src -- make all", "").await;
    assert_eq!(ran.0, 7, "the command's exit code is the client's: {ran:?}");
    bot.await.unwrap();

    client.ok("execute request-dummy --number 2").await;
    let waiting = client.ok("operation list --json").await;
    let names: Vec<Value> = waiting.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for operation in &names {
        client.ok(&format!("operation cancel {}", operation["name"].as_str().unwrap())).await;
    }
    assert!(!names.is_empty());
    assert_eq!(client.ok("operation list --json").await, "");
    let (code, _, err) = client.run("operation status 00000000-0000-7000-8000-000000000000", "").await;
    assert!(code != 0 && err.contains("NOT_FOUND"), "{code}: {err}");
    server.stop().await;
}

#[tokio::test]
async fn results_and_logs_are_written_and_read() {
    let server = Server::start("").await;
    let client = Client::of(&server);
    // An action's result that names nothing, as a message in a file: `exit_code: 3`.
    std::fs::write(client.path("result"), [0x20, 3]).unwrap();
    client.ok("cas upload-file result").await;
    let (action, result) = (format!("{}/1", "a".repeat(64)), digest_of(&client.path("result")));
    client.ok(&format!("action-cache update {action} {result}")).await;
    assert_eq!(client.json(&format!("action-cache get {action}")).await["exitCode"], 3);

    let stream = client.json("logstream create builds/1").await;
    let (read, write) = (stream["name"].as_str().unwrap(), stream["writeResourceName"].as_str().unwrap());
    let line = format!("logstream read {read}");
    let reading = client.run(&line, "");
    let line = format!("logstream write {write}");
    let writing = client.run(&line, "one\ntwo\n");
    let (reading, writing) = tokio::join!(reading, writing);
    assert_eq!((writing.0, reading.1.as_str()), (0, "one\ntwo\n"), "{writing:?} {reading:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_checks_the_servers() {
    let certificates = support::Certificates::make();
    let server = Server::start_tls(
        "instances: [{name: '', storages: [!lru-storage &cas {size: 10M}], services: [!cas {storage: *cas}, !bytestream {storage: *cas}]}]",
        &certificates,
    )
    .await;
    let port = server.address().rsplit(':').next().unwrap().to_owned();
    let remote = format!("https://localhost:{port}");
    let file = |name: &str| certificates.folder.path().join(name).display().to_string();
    let (ca, key, certificate) = (file("ca.crt"), file("client.key"), file("client.crt"));
    let known = Client::new(&[
        "--remote",
        &remote,
        "--server-cert",
        &ca,
        "--client-key",
        &key,
        "--client-cert",
        &certificate,
    ]);
    known.ok("capabilities").await;
    for options in [&["--remote", &remote, "--server-cert", &ca][..], &["--remote", &remote]] {
        let mut options = options.to_vec();
        options.extend(["--retries", "0"]);
        let (code, _, err) = Client::new(&options).run("capabilities", "").await;
        assert!(code != 0 && !err.is_empty(), "a client without a certificate, or one that trusts nobody");
    }
    server.stop().await;
}

const QUOTAS: &str = "
storages: [!lru-storage &cas {size: 10M}]
schedulers: [!sql-scheduler &queue {storage: *cas, cohort-set: !cohort-set {cohorts: [{name: linux, property-labels: [linux]}]}}]
instances:
  - name: main
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !execution {scheduler: *queue}, !introspection {scheduler: *queue}]
services: [!quota-service {scheduler: *queue}]
";

#[tokio::test]
async fn quotas_are_set_shown_and_removed() {
    let server = Server::start(QUOTAS).await;
    let client = Client::of(&server);
    client.ok("quota put main linux --min-quota 1 --max-quota 4").await;
    let quota = client.json("quota get main linux").await;
    assert_eq!(
        (&quota["botCohort"], &quota["minQuota"], &quota["maxQuota"]),
        (&"linux".into(), &"1".into(), &"4".into())
    );
    assert!(client.ok("quota list main").await.contains("linux"));
    let (code, _, err) = client.run("quota put main mac --min-quota 1 --max-quota 4", "").await;
    assert!(code != 0 && err.contains("mac") && err.contains("linux"), "{err}");
    client.ok("quota delete main linux").await;
    let (code, _, err) = client.run("quota get main linux", "").await;
    assert!(code != 0 && err.contains("not found"), "{err}");

    let request = ListWorkersRequest { instance_name: "main".into(), ..ListWorkersRequest::default() };
    let workers = IntrospectionClient::new(server.channel().await).list_workers(request).await.unwrap();
    assert_eq!(workers.into_inner().total, 0);
    server.stop().await;
}
