//! Clients and bots that do nothing but call, over gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use grid_core::{DigestFunction, Hasher};
use grid_proto::any::pack;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operation::Result as Outcome;
use grid_proto::reapi::batch_update_blobs_request::Request as Blob;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::platform::Property;
use grid_proto::reapi::{
    Action, ActionResult, BatchUpdateBlobsRequest, Command, Digest, Directory, ExecuteRequest, Platform,
};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{BotSession, CreateBotSessionRequest, LeaseState, UpdateBotSessionRequest, Worker};
use grid_proto::rwapi::{Device, device, worker};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

/// How long a bot has its calls held.
const POLL: Duration = Duration::from_secs(30);
/// How often it is looked how far the clients are.
const LOOK: Duration = Duration::from_millis(5);
/// Blobs in one request, which stays far below 4 MiB.
const BATCH: usize = 1_000;

/// Actions that no other run has, for bots of one system.
pub(crate) async fn store_actions(channel: &Channel, system: &str, count: u32) -> Vec<Digest> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let command = Command { arguments: vec!["true".to_owned()], ..Command::default() }.encode_to_vec();
    let root = Directory::default().encode_to_vec();
    let property = Property { name: "OSFamily".to_owned(), value: system.to_owned() };
    let action = |_| Action {
        command_digest: Some(digest(&command)),
        input_root_digest: Some(digest(&root)),
        salt: NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec().into(),
        platform: Some(Platform { properties: vec![property.clone()] }),
        ..Action::default()
    };
    let actions: Vec<Vec<u8>> = (0..count).map(action).map(|action| action.encode_to_vec()).collect();
    let digests = actions.iter().map(|action| digest(action)).collect();
    let blobs: Vec<Vec<u8>> = [vec![command, root], actions].concat();
    for batch in blobs.chunks(BATCH) {
        let blob = |data: &Vec<u8>| Blob {
            digest: Some(digest(data)),
            data: data.clone().into(),
            ..Blob::default()
        };
        let requests = batch.iter().map(blob).collect();
        let update = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
        let mut cas = ContentAddressableStorageClient::new(channel.clone());
        cas.batch_update_blobs(update).await.expect("actions are stored");
    }
    digests
}

fn digest(content: &[u8]) -> Digest {
    let mut hasher = Hasher::new(DigestFunction::Sha256);
    hasher.update(content);
    let size_bytes = i64::try_from(content.len()).expect("a small blob");
    Digest { hash: hasher.finish().hash_hex(), size_bytes }
}

/// Asks for an action; gives the stream of what becomes of it.
pub(crate) async fn execute(channel: Channel, action: &Digest) -> Streaming<Operation> {
    let request = ExecuteRequest { action_digest: Some(action.clone()), ..ExecuteRequest::default() };
    ExecutionClient::new(channel).execute(request).await.expect("accepted").into_inner()
}

async fn ended(mut operations: Streaming<Operation>) {
    while let Some(operation) = operations.message().await.expect("an operation") {
        if operation.done {
            assert!(matches!(operation.result, Some(Outcome::Response(_))), "{operation:?}");
            return;
        }
    }
    panic!("the stream ended before its operation");
}

/// Clients that take one action after the other, until none is left or this is dropped.
pub(crate) struct Run {
    finished: Arc<AtomicU32>,
    clients: JoinSet<()>,
}

impl Run {
    /// Starts so many clients.
    pub(crate) fn start(channels: &[Channel], clients: usize, actions: Vec<Digest>) -> Self {
        let (actions, next) = (Arc::new(actions), Arc::new(AtomicU32::new(0)));
        let finished = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for channel in channels.iter().cycle().take(clients) {
            let (channel, actions, next) = (channel.clone(), Arc::clone(&actions), Arc::clone(&next));
            let finished = Arc::clone(&finished);
            tasks.spawn(async move {
                while let Some(action) = actions.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    ended(execute(channel.clone(), action).await).await;
                    finished.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { finished, clients: tasks }
    }

    /// How many actions came to their end.
    pub(crate) fn finished(&self) -> u32 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Waits until so many have, or the first client finds none left.
    pub(crate) async fn reaches(&mut self, number: u32) {
        while self.finished() < number && !self.runs_out_within(LOOK).await {}
    }

    /// Waits for the first client that finds no action left, so long at most; whether there was one.
    pub(crate) async fn runs_out_within(&mut self, most: Duration) -> bool {
        let first = tokio::time::timeout(most, self.clients.join_next()).await;
        first.ok().flatten().inspect(|ended| assert!(ended.is_ok(), "a client: {ended:?}")).is_some()
    }
}

/// Bots of one system, each of so many leases at once; `heard` is told of every lease.
pub(crate) fn bots(
    channels: &[Channel],
    system: &str,
    count: usize,
    capacity: u32,
    heard: Option<&mpsc::UnboundedSender<Instant>>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (number, channel) in channels.iter().cycle().take(count).enumerate() {
        let session = session(format!("{system}-{number}"), system, capacity);
        tasks.spawn(work(BotsClient::new(channel.clone()), session, heard.cloned()));
    }
    tasks
}

fn session(bot_id: String, system: &str, capacity: u32) -> BotSession {
    let property = device::Property { key: "OSFamily".to_owned(), value: system.to_owned() };
    let device = Device { handle: "device".to_owned(), properties: vec![property] };
    let capacity = worker::Config { key: "capacity".to_owned(), value: capacity.to_string() };
    let worker = Worker { devices: vec![device], configs: vec![capacity], ..Worker::default() };
    BotSession { bot_id, status: 1, worker: Some(worker), ..BotSession::default() }
}

/// Finishes at once whatever it is given.
async fn work(
    mut client: BotsClient<Channel>,
    mut session: BotSession,
    heard: Option<mpsc::UnboundedSender<Instant>>,
) {
    loop {
        let answer = if session.name.is_empty() {
            let create =
                CreateBotSessionRequest { parent: String::new(), bot_session: Some(session.clone()) };
            client.create_bot_session(timed(create)).await
        } else {
            let update = UpdateBotSessionRequest {
                name: session.name.clone(),
                bot_session: Some(session.clone()),
                ..UpdateBotSessionRequest::default()
            };
            client.update_bot_session(timed(update)).await
        };
        session = answer.expect("a session").into_inner();
        let now = Instant::now();
        for lease in &mut session.leases {
            if let Some(heard) = &heard {
                // The receiver has all that it wants.
                let _ = heard.send(now);
            }
            lease.state = LeaseState::Completed.into();
            lease.status = Some(grid_proto::rpc::Status::default());
            lease.result = Some(pack(&ActionResult::default()));
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(POLL);
    request
}

/// The times from a client's call to the bot that hears of it, where bots wait, in order; `pause` lets a bot come back.
pub(crate) async fn pickup(
    channel: &Channel,
    actions: &[Digest],
    mut hears: mpsc::UnboundedReceiver<Instant>,
    pause: Duration,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for action in actions {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let operations = execute(channel.clone(), action).await;
        times.push(hears.recv().await.expect("a bot") - began);
        ended(operations).await;
    }
    // The first finds connections and caches cold.
    times.remove(0);
    times.sort_unstable();
    times
}
