//! A server process on free ports, and what tests say to it.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use grid_core::{DigestFunction, Hasher};
use grid_proto::any::{pack, unpack};
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operation::Result as Outcome;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    Action, ActionResult, BatchUpdateBlobsRequest, Command, Digest, Directory, ExecuteResponse,
    ExecutedActionMetadata, FindMissingBlobsRequest,
};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{BotSession, CreateBotSessionRequest, LeaseState, UpdateBotSessionRequest};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command as Process};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What calls are made over.
pub(crate) type Calls = InterceptedService<Channel, Show>;

/// Puts a token into calls.
#[derive(Clone)]
pub(crate) struct Show(Option<MetadataValue<Ascii>>);

impl Interceptor for Show {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    address: String,
    admin: String,
    http_cache: String,
    folder: Arc<tempfile::TempDir>,
    log: tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<String>>,
}

fn channel_at(address: &str) -> String {
    format!("server: [!channel {{address: '{address}', insecure-mode: yes}}]")
}

const ALL_IN_ONE: &str = include_str!("../../etc/built-in.yml");

impl Server {
    /// Starts a server on what follows `server:` in a configuration; an empty text is the built-in configuration.
    pub(crate) async fn start(rest: &str) -> Self {
        let rest = if rest.is_empty() { &ALL_IN_ONE[ALL_IN_ONE.find("instances:").unwrap()..] } else { rest };
        Self::document(&format!("{}\n{rest}", channel_at("127.0.0.1:0"))).await
    }

    /// Starts a server on a whole configuration, which names the address `127.0.0.1:0`.
    pub(crate) async fn document(config: &str) -> Self {
        Self::run(config, Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// Kills it, as a machine that loses power does. What is gone can be started again.
    pub(crate) async fn kill(mut self) -> Killed {
        self.child.kill().await.unwrap();
        Killed { address: self.address.clone(), folder: Arc::clone(&self.folder) }
    }

    /// Where it works.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its address, as `http://HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The address of its HTTP cache.
    pub(crate) fn http_cache(&self) -> &str {
        &self.http_cache
    }

    /// As [`Server::start`], with mutual TLS.
    pub(crate) async fn start_tls(rest: &str, certificates: &Certificates) -> Self {
        let folder = certificates.folder.path().display();
        let channel = format!(
            "server: [!channel {{address: '127.0.0.1:0', credentials: {{tls-server-key: {folder}/server.key, \
             tls-server-cert: {folder}/server.crt, tls-client-certs: {folder}/ca.crt}}}}]"
        );
        Self::document(&format!("{channel}\n{rest}")).await
    }

    /// As [`Server::start`], of a server that does not become ready before it said `what`, on which `then` is called.
    pub(crate) async fn start_hearing(rest: &str, what: &str, then: impl FnOnce()) -> Self {
        let config = format!("{}\n{rest}", channel_at("127.0.0.1:0"));
        let mut then = Some(then);
        let hear = |line: &str| {
            if line.contains(what)
                && let Some(then) = then.take()
            {
                then();
            }
        };
        let server = Self::run_hearing(&config, Arc::new(tempfile::tempdir().unwrap()), hear).await;
        assert!(then.is_none(), "the server never said {what:?}");
        server
    }

    /// What a server says that does not start on what follows `server:` in a configuration.
    pub(crate) async fn refused(rest: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("{}\n{rest}", channel_at("127.0.0.1:0"));
        let output = tokio::time::timeout(PATIENCE, command(&config, folder.path()).output());
        let output = output.await.unwrap().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn run(config: &str, folder: Arc<tempfile::TempDir>) -> Self {
        Self::run_hearing(config, folder, |_| {}).await
    }

    async fn run_hearing(config: &str, folder: Arc<tempfile::TempDir>, mut hear: impl FnMut(&str)) -> Self {
        let mut child = command(config, folder.path()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut address, mut admin, mut http_cache) = (String::new(), String::new(), String::new());
        let mut said = Vec::new();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let after = |what: &str| {
                    line.split_once(what).map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
                };
                address = after("serving on ").unwrap_or_else(|| address.clone());
                admin = after("admin on ").unwrap_or_else(|| admin.clone());
                http_cache = after("HTTP cache on ").unwrap_or_else(|| http_cache.clone());
                hear(&line);
                said.push(line.clone());
                if line.ends_with(" ready") {
                    return true;
                }
            }
            false
        };
        let ready = tokio::time::timeout(PATIENCE, ready).await.unwrap_or(false);
        assert!(ready && !address.is_empty(), "the server did not start:\n{}", said.join("\n"));
        let (sender, log) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send(line).ok();
            }
        });
        Self { child, address, admin, http_cache, folder, log: log.into() }
    }

    /// Waits until it logs a line with `what`, later than the one that was waited for before.
    pub(crate) async fn says(&self, what: &str) {
        let mut log = self.log.lock().await;
        let said = async { while !log.recv().await.unwrap().contains(what) {} };
        tokio::time::timeout(PATIENCE, said).await.unwrap();
    }

    /// A connection to it.
    pub(crate) async fn channel(&self) -> Calls {
        self.channel_showing(None).await
    }

    /// A connection whose calls show a token.
    pub(crate) async fn channel_showing(&self, token: Option<&str>) -> Calls {
        let channel = Endpoint::from_shared(self.address.clone()).unwrap().connect().await.unwrap();
        let token = token.map(|token| format!("Bearer {token}").parse().unwrap());
        InterceptedService::new(channel, Show(token))
    }

    /// A connection by TLS, with a client certificate or without.
    pub(crate) async fn tls_channel(
        &self,
        certificates: &Certificates,
        identified: bool,
    ) -> Result<Channel, tonic::transport::Error> {
        let read = |name: &str| std::fs::read(certificates.folder.path().join(name)).unwrap();
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")))
            .domain_name("localhost");
        if identified {
            tls = tls.identity(Identity::from_pem(read("client.crt"), read("client.key")));
        }
        Endpoint::from_shared(self.address.clone())?.tls_config(tls)?.connect().await
    }

    /// The status and text of a path of the admin address.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.admin)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The memory that it has resident, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:").trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// What the kernel says of its process (`proc_pid_status(5)`).
    pub(crate) fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    }

    /// Asks it to end, and waits until it has, with success.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Process::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// The command that serves a configuration in a folder.
fn command(config: &str, folder: &Path) -> Process {
    let path = folder.join("server.yml");
    std::fs::write(&path, config).unwrap();
    let mut command = Process::new(env!("CARGO_BIN_EXE_grid-server"));
    command
        .args(["serve", "--admin", "127.0.0.1:0", "--grace", "20"])
        .arg(&path)
        .current_dir(folder)
        .env("HOME", folder)
        .env("XDG_STATE_HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A server that was killed: its address is free, and its files are there.
pub(crate) struct Killed {
    address: String,
    folder: Arc<tempfile::TempDir>,
}

impl Killed {
    /// Starts it again where it was, on what follows `server:` in a configuration.
    pub(crate) async fn restart(self, rest: &str) -> Server {
        let address = self.address.trim_start_matches("http://");
        Server::run(&format!("{}\n{rest}", channel_at(address)), self.folder).await
    }
}

/// Brings a database to the server's schema.
pub(crate) async fn migrate(url: &str) {
    let mut command = Process::new(env!("CARGO_BIN_EXE_grid-server"));
    let status = command.args(["migrate", "--database", url]).stdout(Stdio::null()).status().await.unwrap();
    assert!(status.success(), "{status}");
}

/// The digest of some content.
pub(crate) fn digest(content: &[u8]) -> Digest {
    let mut hasher = Hasher::new(DigestFunction::Sha256);
    hasher.update(content);
    let digest = hasher.finish();
    Digest { hash: digest.hash_hex(), size_bytes: i64::try_from(content.len()).unwrap() }
}

/// Stores a blob.
pub(crate) async fn store_blob(channel: Calls, content: Vec<u8>) {
    let request = grid_proto::reapi::batch_update_blobs_request::Request {
        digest: Some(digest(&content)),
        data: content.into(),
        ..Default::default()
    };
    let update = BatchUpdateBlobsRequest { requests: vec![request], ..BatchUpdateBlobsRequest::default() };
    let answer = ContentAddressableStorageClient::new(channel).batch_update_blobs(update).await.unwrap();
    let status = answer.into_inner().responses.remove(0).status.unwrap_or_default();
    assert_eq!(status.code, 0, "{status:?}");
}

/// Whether a blob is there.
pub(crate) async fn has(channel: Calls, content: &[u8]) -> bool {
    let ask =
        FindMissingBlobsRequest { blob_digests: vec![digest(content)], ..FindMissingBlobsRequest::default() };
    let answer = ContentAddressableStorageClient::new(channel).find_missing_blobs(ask).await.unwrap();
    answer.into_inner().missing_blob_digests.is_empty()
}

/// Stores an action that runs a command over an empty input root.
pub(crate) async fn store_action(channel: Calls, arguments: &[&str]) -> (Digest, Action) {
    store_action_of(channel, "", arguments).await
}

/// As [`store_action`], of an instance.
pub(crate) async fn store_action_of(channel: Calls, instance: &str, arguments: &[&str]) -> (Digest, Action) {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    let command = Command { arguments, ..Command::default() }.encode_to_vec();
    let root = Directory::default().encode_to_vec();
    let action = Action {
        command_digest: Some(digest(&command)),
        input_root_digest: Some(digest(&root)),
        ..Action::default()
    };
    let encoded = action.encode_to_vec();
    let requests = [command, root, encoded.clone()]
        .into_iter()
        .map(|data| grid_proto::reapi::batch_update_blobs_request::Request {
            digest: Some(digest(&data)),
            data: data.into(),
            ..Default::default()
        })
        .collect();
    let instance_name = instance.to_owned();
    let update = BatchUpdateBlobsRequest { instance_name, requests, ..BatchUpdateBlobsRequest::default() };
    ContentAddressableStorageClient::new(channel).batch_update_blobs(update).await.unwrap();
    (digest(&encoded), action)
}

/// A bot that takes one lease and completes it with an exit code.
pub(crate) async fn run_one_lease(channel: Calls, exit_code: i32) {
    run_one_lease_of(channel, "", exit_code).await;
}

/// As [`run_one_lease`], of an instance.
pub(crate) async fn run_one_lease_of(channel: Calls, instance: &str, exit_code: i32) {
    run_one(channel, instance, exit_code, Vec::new()).await;
}

/// As [`run_one_lease`], of an action that used what the message says.
pub(crate) async fn run_one_lease_using(channel: Calls, measured: prost_types::Any) {
    run_one(channel, "", 0, vec![measured]).await;
}

async fn run_one(channel: Calls, instance: &str, exit_code: i32, measured: Vec<prost_types::Any>) {
    let mut client = BotsClient::new(channel);
    let session = BotSession { bot_id: "test-bot".to_owned(), status: 1, ..BotSession::default() };
    let create = CreateBotSessionRequest { parent: instance.to_owned(), bot_session: Some(session) };
    let mut session = client.create_bot_session(create).await.unwrap().into_inner();
    for _ in 0..100 {
        for lease in &mut session.leases {
            let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
            let metadata = ExecutedActionMetadata {
                worker: "test-bot".to_owned(),
                execution_start_timestamp: at(1_000),
                execution_completed_timestamp: at(1_001),
                auxiliary_metadata: measured.clone(),
                ..ExecutedActionMetadata::default()
            };
            let execution_metadata = Some(metadata);
            let result = ActionResult { exit_code, execution_metadata, ..ActionResult::default() };
            lease.state = LeaseState::Completed as i32;
            lease.status = Some(grid_proto::rpc::Status::default());
            lease.result = Some(pack(&result));
        }
        let done = !session.leases.is_empty();
        let mut update = tonic::Request::new(UpdateBotSessionRequest {
            name: session.name.clone(),
            bot_session: Some(session.clone()),
            ..UpdateBotSessionRequest::default()
        });
        update.set_timeout(Duration::from_secs(20));
        session = client.update_bot_session(update).await.unwrap().into_inner();
        if done {
            return;
        }
    }
    panic!("no lease came");
}

/// The exit code that an operation ended with.
pub(crate) fn exit_code(operation: &Operation) -> i32 {
    let Some(Outcome::Response(response)) = &operation.result else { panic!("{operation:?}") };
    let response: ExecuteResponse = unpack(response).unwrap();
    response.result.unwrap().exit_code
}

/// An authority with a server's and a client's certificates.
pub(crate) struct Certificates {
    pub(crate) folder: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = certificate.signed_by(&key, &authority).unwrap();
            write(folder.path(), &format!("{name}.crt"), &certificate.pem());
            write(folder.path(), &format!("{name}.key"), &key.serialize_pem());
        }
        Self { folder }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}
