//! Clients that do harm by what they leave undone: a thousand that read nothing, a thousand that wait, a thousand bots without
//! work, uploads that stop in the middle, connections that say nothing, and rubbish. A good client is served all the same, and
//! memory stays bounded.
//!
//! The crowd stands for other machines, and what the good client waits for is the server: so the crowd's threads have a lower
//! priority, and the good client has a thread of its own. Where it is measured, on an idle machine, they run only while the
//! processors have nothing else to do, and that the rubbish was sent all the same is asked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{ReadRequest, ReadResponse, WriteRequest};
use grid_proto::longrunning::Operation;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{Digest, ExecuteRequest, FindMissingBlobsRequest, GetActionResultRequest};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{BotSession, CreateBotSessionRequest, UpdateBotSessionRequest};
use support::{Server, digest};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// So many clients of each kind, over so many connections.
const CLIENTS: usize = 1_000;
const CONNECTIONS: usize = 10;
/// What each slow reader asks for; all of them together ask for 16 GiB.
const BLOB: usize = 16 << 20;
/// What the server may hold at most, whatever clients do.
const MEMORY: u64 = 2 << 30;

const GRID: &str = "
maximum-concurrent-rpcs: 3000
instances:
  - name: ''
    storages: [!disk-storage &cas {path: cas}]
    caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100}]
    schedulers: [!sql-scheduler &queue {storage: *cas, action-cache: *results}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}, !execution {scheduler: *queue}]
";

async fn connect(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(server.address().to_owned()).unwrap();
    // Windows as large as careless clients have them.
    let endpoint =
        endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(Some(256 << 20));
    endpoint.connect().await.unwrap()
}

async fn connections(server: &Server) -> Vec<Channel> {
    join_all((0..CONNECTIONS).map(|_| connect(server))).await
}

/// Streams of which nobody reads more than the first message.
async fn slow_readers(channels: &[Channel], content: &[u8]) -> Vec<Streaming<ReadResponse>> {
    let name = digest(content);
    let resource_name = format!("blobs/{}/{}", name.hash, name.size_bytes);
    let read = async |index: usize| {
        let request = ReadRequest { resource_name: resource_name.clone(), read_offset: 0, read_limit: 0 };
        let mut client = ByteStreamClient::new(channels[index % CONNECTIONS].clone());
        client.read(request).await.unwrap().into_inner()
    };
    join_all((0..CLIENTS).map(read)).await
}

async fn waiters(server: &Server, channels: &[Channel]) -> Vec<Streaming<Operation>> {
    let (action, _) = support::store_action(server.channel().await, &["never", "run"]).await;
    let execute = async |index: usize| {
        let mut client = ExecutionClient::new(channels[index % CONNECTIONS].clone());
        let request = ExecuteRequest { action_digest: Some(action.clone()), ..ExecuteRequest::default() };
        let mut stream = client.execute(request).await.unwrap().into_inner();
        assert!(!stream.message().await.unwrap().unwrap().done);
        stream
    };
    join_all((0..CLIENTS).map(execute)).await
}

/// Uploads of which a part comes, and then nothing more.
fn half_writers(channels: &[Channel]) -> JoinSet<()> {
    let write = |index: usize| {
        let mut client = ByteStreamClient::new(channels[index % CONNECTIONS].clone());
        let hash = format!("{index:064x}");
        let first = WriteRequest {
            resource_name: format!("uploads/{}/blobs/{hash}/{BLOB}", uuid(index)),
            data: Bytes::from(vec![1_u8; 64 << 10]),
            ..WriteRequest::default()
        };
        let messages = futures::StreamExt::chain(stream::iter([first]), stream::pending());
        async move { drop(client.write(messages).await) }
    };
    (0..CLIENTS / 10).map(write).collect()
}

fn uuid(index: usize) -> String {
    format!("2f1e1d5c-9b8a-4c7d-8e6f-{index:012}")
}

/// Connections that say nothing, or nothing that makes sense.
async fn rubbish(server: &Server) -> Vec<TcpStream> {
    let address = server.address().trim_start_matches("http://");
    let mut kept = Vec::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let headers_for_ever =
        [preface.clone(), [&[0, 0x40, 0, 1, 0, 0, 0, 0, 1][..], &[0x82; 0x4000]].concat()].concat();
    for said in
        [Vec::new(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), preface, headers_for_ever, vec![0xff; 100_000]]
    {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may have hung up by then.
            let _ = stream.write_all(&said).await;
            kept.push(stream);
        }
    }
    kept
}

/// Bots that wait for work; one of them gets the action and never ends it.
async fn bots(server: &Server, channels: &[Channel]) -> JoinSet<()> {
    let mut bots = JoinSet::new();
    for index in 0..CLIENTS {
        bots.spawn(bot(channels[index % CONNECTIONS].clone(), index));
    }
    while waiting_bots(server).await < CLIENTS - 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bots
}

/// How many bots' calls are under way.
async fn waiting_bots(server: &Server) -> usize {
    let (_, metrics) = server.get("/metrics").await;
    let calls =
        metrics.lines().filter(|line| line.starts_with("grid_rpc_in_flight{") && line.contains("BotSession"));
    calls.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

async fn bot(channel: Channel, index: usize) {
    fn in_time<T>(message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(Duration::from_secs(600));
        request
    }
    let mut client = BotsClient::new(channel);
    let session = BotSession { bot_id: format!("bot-{index}"), status: 1, ..BotSession::default() };
    let create = CreateBotSessionRequest { parent: String::new(), bot_session: Some(session) };
    let mut session = client.create_bot_session(in_time(create)).await.unwrap().into_inner();
    loop {
        let name = session.name.clone();
        let update = UpdateBotSessionRequest { name, bot_session: Some(session), ..Default::default() };
        session = client.update_bot_session(in_time(update)).await.unwrap().into_inner();
    }
}

/// Calls that make no sense, as many a second as `a_second` says, until it is dropped; how many were answered.
struct Rubbish {
    answered: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Rubbish {
    fn start(channels: Vec<Channel>, a_second: u64) -> Self {
        /// How often some are sent.
        const TURNS: u64 = 100;
        /// How many may be under way: a server that falls behind is not asked ever more.
        const UNDER_WAY: usize = 2_000;
        let answered = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&answered);
        let places = Arc::new(Semaphore::new(UNDER_WAY));
        let task = tokio::spawn(async move {
            let mut turns = tokio::time::interval(Duration::from_millis(1_000 / TURNS));
            for turn in 0_u64.. {
                turns.tick().await;
                for number in 0..a_second / TURNS {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
                    let channel = channels[usize::try_from(number).unwrap() % channels.len()].clone();
                    let counted = Arc::clone(&counted);
                    tokio::spawn(async move {
                        assert!(refused(channel, turn + number).await, "rubbish was taken");
                        counted.fetch_add(1, Ordering::Relaxed);
                        drop(place);
                    });
                }
            }
        });
        Self { answered, task }
    }
}

impl Drop for Rubbish {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes one call that must be refused.
async fn refused(channel: Channel, number: u64) -> bool {
    let nowhere = format!("nowhere-{number}");
    match number % 4 {
        0 => {
            let digests = vec![Digest { hash: "not hexadecimal".to_owned(), size_bytes: -1 }];
            let ask = FindMissingBlobsRequest { blob_digests: digests, ..Default::default() };
            ContentAddressableStorageClient::new(channel).find_missing_blobs(ask).await.is_err()
        }
        1 => {
            let ask = FindMissingBlobsRequest { instance_name: nowhere, ..Default::default() };
            ContentAddressableStorageClient::new(channel).find_missing_blobs(ask).await.is_err()
        }
        2 => {
            let ask = ReadRequest { resource_name: nowhere, ..ReadRequest::default() };
            ByteStreamClient::new(channel).read(ask).await.is_err()
        }
        _ => {
            let ask = GetActionResultRequest {
                action_digest: Some(digest(nowhere.as_bytes())),
                ..Default::default()
            };
            ActionCacheClient::new(channel).get_action_result(ask).await.is_err()
        }
    }
}

/// How long rounds of honest work take, sorted.
async fn honest_work(server: &Server, salt: u8, rounds: u16) -> Vec<Duration> {
    let channel = server.channel().await;
    let mut took = Vec::new();
    for round in 0..rounds {
        let mut content = vec![salt; 100_000];
        content[..2].copy_from_slice(&round.to_le_bytes());
        let begun = Instant::now();
        support::store_blob(channel.clone(), content.clone()).await;
        assert!(support::has(channel.clone(), &content).await);
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took
}

/// What all but one in a hundred took at most.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

async fn store_large(server: &Server, content: &[u8]) {
    let name = digest(content);
    let upload = WriteRequest {
        resource_name: format!("uploads/{}/blobs/{}/{}", uuid(0), name.hash, name.size_bytes),
        ..WriteRequest::default()
    };
    let message = |(at, data): (usize, &[u8])| WriteRequest {
        write_offset: i64::try_from(at << 20).unwrap(),
        finish_write: (at << 20) + data.len() == content.len(),
        data: Bytes::copy_from_slice(data),
        ..upload.clone()
    };
    let messages: Vec<_> = content.chunks(1 << 20).enumerate().map(message).collect();
    ByteStreamClient::new(server.channel().await).write(stream::iter(messages)).await.unwrap();
}

/// The good client's rounds, on a thread of its own.
async fn alone(server: &Arc<Server>, salt: u8, rounds: u16) -> Vec<Duration> {
    let server = Arc::clone(server);
    let work = move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(honest_work(&server, salt, rounds))
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// All that do harm, until they are dropped.
struct Crowd {
    _readers: Vec<Streaming<ReadResponse>>,
    _waiting: Vec<Streaming<Operation>>,
    _silent: Vec<TcpStream>,
    bots: JoinSet<()>,
    _writers: JoinSet<()>,
    noise: Rubbish,
}

impl Crowd {
    async fn gather(server: Arc<Server>, content: Vec<u8>, rubbish_a_second: u64) -> Self {
        Self {
            _readers: slow_readers(&connections(&server).await, &content).await,
            _waiting: waiters(&server, &connections(&server).await).await,
            _writers: half_writers(&connections(&server).await),
            bots: bots(&server, &connections(&server).await).await,
            _silent: rubbish(&server).await,
            noise: Rubbish::start(connections(&server).await, rubbish_a_second),
        }
    }
}

/// Has this thread run only where no other wants to (`SCHED_IDLE`): a lower priority alone would let it finish its slice while
/// the server waits.
fn only_when_idle() {
    // `PROCESS/task/THREAD`.
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = thread.file_name().unwrap_or_default();
    let asked = std::process::Command::new("chrt").args(["--idle", "--pid", "0"]).arg(number).status();
    if !asked.is_ok_and(|status| status.success()) {
        // Without util-linux the figures are worse than the server's own.
        let _ = rustix::process::nice(19);
    }
}

fn with_less_priority() {
    let _ = rustix::process::nice(10);
}

/// `GRID_CROWD` makes it a measurement: ten thousand calls of rubbish a second, and the good client's p99 is held to
/// five times what it was alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_does_nothing_harms_nobody() {
    let measured = std::env::var_os("GRID_CROWD").is_some();
    let (rounds, rubbish_a_second) = if measured { (1_000, 10_000) } else { (10, 100) };
    let server = Arc::new(Server::start(GRID).await);
    let content = vec![7_u8; BLOB];
    store_large(&server, &content).await;
    let quiet = alone(&server, 0, rounds).await;
    let before = server.memory();

    let place = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(if measured { only_when_idle } else { with_less_priority })
        .build()
        .unwrap();
    let mut crowd = place.spawn(Crowd::gather(Arc::clone(&server), content, rubbish_a_second)).await.unwrap();
    let (begun, answered) = (Instant::now(), crowd.noise.answered.load(Ordering::Relaxed));
    let crowded = alone(&server, 1, rounds).await;
    let answered = crowd.noise.answered.load(Ordering::Relaxed) - answered;
    let refused = answered as f64 / begun.elapsed().as_secs_f64();
    let held = server.memory();
    println!("| figure | alone | in the crowd |\n|---|---|---|");
    println!("| p50 of the good client | {:?} | {:?} |", quiet[quiet.len() / 2], crowded[crowded.len() / 2]);
    println!("| p99 | {:?} | {:?} ({:.1} times) |", p99(&quiet), p99(&crowded), times(&quiet, &crowded));
    println!("| resident memory | {} MiB | {} MiB |", before >> 20, held >> 20);
    println!("| rubbish refused a second | | {refused:.0} |");
    assert!(held < MEMORY, "{} MiB are held for clients that do nothing", held >> 20);
    assert!(answered > 0, "no rubbish was answered");
    assert!(
        !measured || refused > 0.9 * rubbish_a_second as f64,
        "only {refused:.0} calls of rubbish a second"
    );
    assert!(
        !measured || times(&quiet, &crowded) < 5.0,
        "the good client's p99 is more than five times what it was"
    );
    assert!(crowd.bots.try_join_next().is_none(), "a bot was refused");
    drop(crowd);
    place.shutdown_background();
    assert_eq!(alone(&server, 2, 1).await.len(), 1);
    Arc::into_inner(server).unwrap().stop().await;
}

fn times(quiet: &[Duration], crowded: &[Duration]) -> f64 {
    p99(crowded).as_secs_f64() / p99(quiet).as_secs_f64()
}
