//! BuildGrid itself, from its wheel, beside ours: it fills a bucket, Redis and PostgreSQL; ours takes them over on the same
//! configuration and serves them; then BuildGrid runs again on what is left.
//!
//! Run by `cargo xtask test --full import`, which sets `GRID_BUILDGRID` to the folder of BuildGrid's programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use grid_proto::bytestream::ReadRequest;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::batch_update_blobs_request::Request as Blob;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    ActionResult, BatchUpdateBlobsRequest, FindMissingBlobsRequest, GetActionResultRequest,
    UpdateActionResultRequest,
};
use grid_scheduler_sql::testing;
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use support::digest;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

const PATIENCE: Duration = Duration::from_secs(120);
const INSTANCES: [&str; 3] = ["s3", "redis", "sql"];
/// One blob small enough for the index itself, others of one and of several messages.
const SIZES: [usize; 6] = [50, 1_000, 1_001, 1_002, 40_000, 3_000_000];

/// Some 30,000 bytes less than the test stores: more than all but the two largest blobs, less than those.
const CLEANUP: &str = "
cleanup:
  - {instance-name: s3, index: *s3, high-watermark: 3040000, low-watermark: 3033000, batch-size: 1000}
";

/// What both servers need, and their one configuration.
struct World {
    folder: tempfile::TempDir,
    database: String,
    /// BuildGrid's configuration, which ours serves as it is.
    config: PathBuf,
    /// The same with watermarks, and without a promise to wait for.
    upkeep: PathBuf,
    port: u16,
    _redis: Child,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
        let (endpoint, redis_port, port) =
            (bucket_server(folder.path()).await, free_port().await, free_port().await);
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &redis_port.to_string(), "--save", "", "--appendonly", "no"]);
        let redis = redis.stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        answers(redis_port).await;
        let config = folder.path().join("buildgrid.yml");
        let text = include_str!("import/buildgrid.yml")
            .replace("PORT", &port.to_string())
            .replace("DATABASE", &database)
            .replace("REDIS", &redis_port.to_string())
            .replace("ENDPOINT", &endpoint);
        std::fs::write(&config, &text).unwrap();
        let upkeep = folder.path().join("upkeep.yml");
        let inline = "max-inline-blob-size: 100\n";
        let text = text.replace(inline, &format!("{inline}    promised-lifetime: {{seconds: 0}}\n"));
        std::fs::write(&upkeep, text + CLEANUP).unwrap();
        Self { folder, database, config, upkeep, port, _redis: redis }
    }

    /// Runs BuildGrid's server.
    async fn buildgrid(&self) -> Running {
        let programs = PathBuf::from(std::env::var_os("GRID_BUILDGRID").unwrap());
        let mut migrate = Command::new(programs.join("bgd"));
        let migrated = migrate.args(["migrate", "apply", &self.database]).output().await.unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        let mut serve = Command::new(programs.join("bgd"));
        serve.args(["server", "start"]).arg(&self.config);
        self.run(serve, "buildgrid.log").await
    }

    /// Runs ours, on the same configuration.
    async fn ours(&self) -> Running {
        let mut serve = self.command("serve");
        serve.arg(&self.config);
        self.run(serve, "ours.log").await
    }

    async fn run(&self, mut command: Command, log: &str) -> Running {
        let path = self.folder.path().join(log);
        let log = std::fs::File::create(&path).unwrap();
        let mut child =
            command.stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true).spawn().unwrap();
        tokio::select! {
            () = answers(self.port) => {}
            ended = child.wait() => panic!("{ended:?}: {}", std::fs::read_to_string(path).unwrap()),
        }
        let channel = Endpoint::from_shared(format!("http://localhost:{}", self.port)).unwrap();
        Running { child, channel: channel.connect().await.unwrap() }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
        command.arg(name).current_dir(self.folder.path()).env_remove("RUST_LOG");
        command.env("HOME", self.folder.path()).env("XDG_STATE_HOME", self.folder.path());
        command
    }

    /// Runs one of our commands on the configuration to its end; gives what it said.
    async fn say(&self, name: &str, arguments: &[&str], succeeds: bool) -> String {
        let output = self.command(name).arg(&self.upkeep).args(arguments).output();
        let output: Output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        assert_eq!(output.status.success(), succeeds, "{output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// A server at the configuration's address.
struct Running {
    child: Child,
    channel: Channel,
}

impl Running {
    async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
    }

    fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
    }

    /// Stores blobs, large ones too, each by itself.
    async fn put(&self, instance: &str, contents: &[Vec<u8>]) {
        for data in contents {
            let blob = Blob { digest: Some(digest(data)), data: data.clone().into(), ..Blob::default() };
            let update = BatchUpdateBlobsRequest {
                instance_name: instance.into(),
                requests: vec![blob],
                ..BatchUpdateBlobsRequest::default()
            };
            let answer = self.cas().batch_update_blobs(update).await.unwrap().into_inner();
            let status = answer.responses[0].status.clone().unwrap_or_default();
            assert_eq!(status.code, 0, "{instance}: {status:?}");
        }
    }

    /// The places of those of some contents that are not there.
    async fn missing(&self, instance: &str, contents: &[Vec<u8>]) -> Vec<usize> {
        let ask = FindMissingBlobsRequest {
            instance_name: instance.into(),
            blob_digests: contents.iter().map(|data| digest(data)).collect(),
            ..FindMissingBlobsRequest::default()
        };
        let missing = self.cas().find_missing_blobs(ask).await.unwrap().into_inner().missing_blob_digests;
        (0..contents.len()).filter(|at| missing.contains(&digest(&contents[*at]))).collect()
    }

    async fn get(&self, instance: &str, content: &[u8]) -> Result<Vec<u8>, tonic::Status> {
        let digest = digest(content);
        let resource_name = format!("{instance}/blobs/{}/{}", digest.hash, digest.size_bytes);
        let read = ReadRequest { resource_name, ..ReadRequest::default() };
        let mut stream = ByteStreamClient::new(self.channel.clone()).read(read).await?.into_inner();
        let mut read = Vec::new();
        while let Some(piece) = stream.message().await? {
            read.extend_from_slice(&piece.data);
        }
        Ok(read)
    }

    async fn has_all(&self, instance: &str, contents: &[Vec<u8>]) {
        assert_eq!(self.missing(instance, contents).await, [0_usize; 0], "{instance}");
        for content in contents {
            assert!(self.get(instance, content).await.unwrap() == *content, "{instance}");
        }
    }

    async fn put_result(&self, instance: &str, action: &[u8], exit_code: i32) {
        let update = UpdateActionResultRequest {
            instance_name: instance.into(),
            action_digest: Some(digest(action)),
            action_result: Some(ActionResult {
                exit_code,
                stdout_digest: Some(digest(&content(instance, SIZES[1]))),
                ..ActionResult::default()
            }),
            ..UpdateActionResultRequest::default()
        };
        ActionCacheClient::new(self.channel.clone()).update_action_result(update).await.unwrap();
    }

    async fn result(&self, instance: &str, action: &[u8]) -> i32 {
        let get = GetActionResultRequest {
            instance_name: instance.into(),
            action_digest: Some(digest(action)),
            ..GetActionResultRequest::default()
        };
        ActionCacheClient::new(self.channel.clone())
            .get_action_result(get)
            .await
            .unwrap()
            .into_inner()
            .exit_code
    }
}

fn content(instance: &str, size: usize) -> Vec<u8> {
    let name = format!("{instance} {size} ");
    name.bytes().cycle().take(size).collect()
}

fn contents(instance: &str) -> Vec<Vec<u8>> {
    SIZES.iter().map(|size| content(instance, *size)).collect()
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens there.
async fn answers(port: u16) {
    let connected = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
}

/// An S3 server with two buckets; gives its URL.
async fn bucket_server(folder: &Path) -> String {
    let folder = folder.join("s3");
    ["main", "results"].iter().for_each(|name| std::fs::create_dir_all(folder.join(name)).unwrap());
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(&folder).unwrap());
    service.set_auth(SimpleAuth::from_single("AKIAGRID", "sesame-open"));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.call(request.map(s3s::Body::from)).await.unwrap()) }
            });
            let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                connection.serve_connection(TokioIo::new(socket), answer).await.ok();
            });
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs BuildGrid's wheel: run by `cargo xtask test --full import`"]
async fn what_buildgrid_stored_is_taken_over_and_it_runs_on() {
    let world = World::new().await;
    let buildgrid = world.buildgrid().await;
    for instance in INSTANCES {
        buildgrid.put(instance, &contents(instance)).await;
        buildgrid.has_all(instance, &contents(instance)).await;
    }
    for instance in ["s3", "redis"] {
        buildgrid.put_result(instance, b"an action", 7).await;
    }
    buildgrid.stop().await;

    // Ours on the same file.
    let dry = world.say("migrate", &["--import-buildgrid"], true).await;
    assert!(
        dry.contains("blobs in BuildGrid's index") && dry.contains("6 blobs in BuildGrid's table"),
        "{dry}"
    );
    let again = world.say("migrate", &["--import-buildgrid"], true).await;
    assert!(again.contains("0 bytes in 0 blobs were not known"), "{again}");
    let ours = world.ours().await;
    for instance in INSTANCES {
        ours.has_all(instance, &contents(instance)).await;
    }
    for instance in ["s3", "redis"] {
        assert_eq!(ours.result(instance, b"an action").await, 7, "{instance}");
    }
    let new = content("written by ours", 20_000);
    ours.put("s3", std::slice::from_ref(&new)).await;

    // Nothing is deleted from what BuildGrid uses too, but by those who tell its index.
    let refused = world.say("cleanup", &["--once"], false).await;
    assert!(refused.contains("--shared") && refused.contains("--finish-import"), "{refused}");
    let refused = world.say("janitor", &["--min-age", "0"], false).await;
    assert!(refused.contains("--shared"), "{refused}");
    let kept = world.say("janitor", &["--min-age", "0", "--shared", "--dry-run"], true).await;
    assert!(kept.contains("does not know 0 bytes in 0 blobs"), "{kept}");
    let cleaned = world.say("cleanup", &["--once", "--shared"], true).await;
    assert!(!cleaned.contains("deleted 0 bytes"), "{cleaned}");
    ours.stop().await;

    // And back: BuildGrid knows what it knew, less what we deleted; that it takes again.
    let buildgrid = world.buildgrid().await;
    let all = contents("s3");
    assert_eq!(buildgrid.missing("s3", std::slice::from_ref(&new)).await, [0], "it never heard of it");
    let gone = buildgrid.missing("s3", &all).await;
    assert!(!gone.is_empty() && gone.len() < all.len(), "{gone:?}");
    for (at, content) in all.iter().enumerate() {
        let read = buildgrid.get("s3", content).await;
        assert_eq!(read.is_ok_and(|read| read == *content), !gone.contains(&at), "{at} of {gone:?}");
    }
    for instance in ["redis", "sql"] {
        buildgrid.has_all(instance, &contents(instance)).await;
    }
    assert_eq!(buildgrid.result("redis", b"an action").await, 7);
    buildgrid.put("s3", &all).await;
    buildgrid.has_all("s3", &all).await;
    buildgrid.stop().await;

    // What it wrote meanwhile is taken over too, and then it is over.
    let finished = world.say("migrate", &["--import-buildgrid", "--finish-import"], true).await;
    assert!(finished.contains("this grid's alone"), "{finished}");
    let ours = world.ours().await;
    ours.has_all("s3", &all).await;
    world.say("cleanup", &["--once"], true).await;
    assert!(!ours.missing("s3", &all).await.is_empty());
    ours.stop().await;
}
