//! Three replicas on one PostgreSQL, killed one after the other while the database crashes too, and its standby takes over:
//! 100 bots and 20 clients lose nothing, and no action is run twice. `GRID_CRASH_MINUTES` says for how long; without it
//! one round of crashes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use grid_proto::any::pack;
use grid_proto::longrunning::Operation;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{ActionResult, ExecuteRequest, WaitExecutionRequest};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{BotSession, CreateBotSessionRequest, LeaseState, UpdateBotSessionRequest};
use grid_scheduler::store::QueueStore as _;
use grid_scheduler_sql::testing::Postgres;
use grid_scheduler_sql::{Database, DatabaseOptions, PostgresQueue};
use parking_lot::Mutex;
use support::{Server, exit_code, store_action};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

const REPLICAS: usize = 3;
/// What is written is not flushed: processes crash here, not machines.
const OPTIONS: [&str; 1] = ["-F"];
const BOTS: usize = 100;
const CLIENTS: usize = 20;
/// What every action ends with: no default.
const EXIT: i32 = 7;
/// Between two crashes.
const PAUSE: Duration = Duration::from_secs(2);
/// A call of a bot.
const POLL: Duration = Duration::from_secs(10);
/// What is accepted ends within this time once nothing crashes any more.
const PATIENCE: Duration = Duration::from_mins(3);

struct World {
    replicas: Vec<Channel>,
    /// Which lease of each job a bot was shown.
    shown: Mutex<HashMap<String, String>>,
    finished: AtomicU64,
    /// Clients ask for no more.
    over: AtomicBool,
    next: AtomicUsize,
}

impl World {
    /// The replica for the next try of anything.
    fn replica(&self) -> Channel {
        self.replicas[self.next.fetch_add(1, Ordering::Relaxed) % REPLICAS].clone()
    }

    /// No job is shown twice: bots stay, so that there is never a reason to run one again.
    fn show(&self, bot: &str, lease: &str) {
        let job = lease.rsplit('/').next().unwrap().split('.').next().unwrap().to_owned();
        let holder = format!("{lease} on {bot}");
        let first = self.shown.lock().entry(job).or_insert_with(|| holder.clone()).clone();
        assert_eq!(first, holder, "a job was given to be run twice");
    }
}

async fn bot(world: Arc<World>, number: usize) {
    let bot_id = format!("bot-{number}");
    let fresh = BotSession { bot_id: bot_id.clone(), status: 1, ..BotSession::default() };
    let mut session = fresh;
    loop {
        match call(&world, &session).await {
            Ok(answer) => session = answer,
            Err(status) => {
                let known = session.name.is_empty() || status.code() != Code::InvalidArgument;
                assert!(known, "the session of {bot_id} was lost: {status}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        }
        for lease in &mut session.leases {
            world.show(&bot_id, &lease.id);
            lease.state = LeaseState::Completed.into();
            lease.status = Some(grid_proto::rpc::Status::default());
            lease.result = Some(pack(&ActionResult { exit_code: EXIT, ..ActionResult::default() }));
        }
    }
}

async fn call(world: &World, session: &BotSession) -> Result<BotSession, Status> {
    let mut client = BotsClient::new(world.replica());
    let bot_session = Some(session.clone());
    let answer = if session.name.is_empty() {
        let create = CreateBotSessionRequest { parent: String::new(), bot_session };
        let mut request = tonic::Request::new(create);
        request.set_timeout(POLL);
        client.create_bot_session(request).await
    } else {
        let name = session.name.clone();
        let update = UpdateBotSessionRequest { name, bot_session, ..UpdateBotSessionRequest::default() };
        let mut request = tonic::Request::new(update);
        request.set_timeout(POLL);
        client.update_bot_session(request).await
    };
    answer.map(tonic::Response::into_inner)
}

async fn client(world: Arc<World>, store: Arc<Server>, number: usize) {
    let storage = store.channel().await;
    for round in 0_u64.. {
        if world.over.load(Ordering::Relaxed) {
            return;
        }
        let (digest, _) = store_action(storage.clone(), &["true", &format!("{number}-{round}")]).await;
        let request = ExecuteRequest { action_digest: Some(digest), ..ExecuteRequest::default() };
        let ended = execute(&world, &request).await;
        assert_eq!(exit_code(&ended), EXIT);
        world.finished.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks until there is an answer, as clients do: by the operation's name from the moment that it is known.
async fn execute(world: &World, request: &ExecuteRequest) -> Operation {
    let mut known: Option<Operation> = None;
    loop {
        let mut client = ExecutionClient::new(world.replica());
        let stream = match &known {
            None => client.execute(request.clone()).await,
            Some(operation) => {
                client.wait_execution(WaitExecutionRequest { name: operation.name.clone() }).await
            }
        };
        let broken = match stream {
            Ok(stream) => last(stream.into_inner(), &mut known).await,
            Err(status) => Some(status),
        };
        match (broken, known.take_if(|operation| operation.done)) {
            (_, Some(ended)) => return ended,
            (Some(status), None) => {
                assert_ne!(status.code(), Code::NotFound, "an operation was lost: {known:?}: {status}");
            }
            (None, None) => {}
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Reads a stream to its end; gives what broke it.
async fn last(mut stream: Streaming<Operation>, known: &mut Option<Operation>) -> Option<Status> {
    loop {
        match stream.message().await {
            Ok(Some(operation)) => *known = Some(operation),
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// A primary with its standby, and the address that is always the primary's, as a Service's is.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    gate: Arc<Gate>,
}

/// A port, and the port to which it leads now.
struct Gate {
    port: u16,
    leads_to: AtomicU16,
}

impl Pair {
    async fn start() -> Self {
        let (primary, standby) = apart(|| {
            let primary = Postgres::start(&OPTIONS);
            let standby = primary.standby(&OPTIONS);
            (primary, standby)
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Gate { port, leads_to: AtomicU16::new(primary.port()) });
        tokio::spawn(lead(listener, Arc::clone(&gate)));
        Self { primary, standby, gate }
    }

    /// Creates a database and gives the URL that outlives the primary.
    fn create(&self, name: &str) -> String {
        let port = |port: u16| format!(":{port}/");
        self.primary.create(name).replace(&port(self.primary.port()), &port(self.gate.port))
    }

    /// The primary crashes and starts again.
    async fn crash(self) -> Self {
        let pair = apart(move || {
            self.primary.stop();
            self
        })
        .await;
        sleep(PAUSE).await;
        apart(move || {
            pair.primary.launch(&OPTIONS);
            pair
        })
        .await
    }

    /// The primary crashes and never comes back; its standby takes over and gets a standby of its own.
    async fn fail_over(self) -> Self {
        apart(move || {
            let Self { primary, standby: next, gate } = self;
            primary.stop();
            next.promote();
            gate.leads_to.store(next.port(), Ordering::Relaxed);
            drop(primary);
            Self { standby: next.standby(&OPTIONS), primary: next, gate }
        })
        .await
    }
}

/// Runs other programs without keeping the bots and clients from running.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn lead(listener: TcpListener, gate: Arc<Gate>) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            // Whoever is not there, or goes, is what the test is about.
            if let Ok(mut server) =
                TcpStream::connect(("127.0.0.1", gate.leads_to.load(Ordering::Relaxed))).await
            {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

/// Kills replicas in turn, and now and then the database; gives everything back, all of it up, and how often that was.
async fn crash(
    mut replicas: Vec<Server>,
    config: &str,
    mut databases: Pair,
    until: Instant,
) -> (Vec<Server>, Pair, u32) {
    let mut rounds = 0_u32;
    while rounds < 5 || Instant::now() < until {
        sleep(PAUSE).await;
        match rounds % 5 {
            3 => databases = databases.crash().await,
            4 => databases = databases.fail_over().await,
            _ => {
                let killed = replicas.remove(0).kill().await;
                replicas.push(killed.restart(config).await);
            }
        }
        rounds += 1;
    }
    (replicas, databases, rounds)
}

fn replica_config(url: &str, store: &Server) -> String {
    format!(
        "
connections: [!sql-connection &database {{connection-string: '{url}', automigrate: yes}}]
instances:
  - name: ''
    storages: [!remote-storage &cas {{url: '{}', instance-name: ''}}]
    schedulers: [!sql-scheduler &queue {{storage: *cas, sql: *database}}]
    services: [!execution {{scheduler: *queue}}]
",
        store.address()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_run_twice_whatever_is_killed() {
    let minutes = std::env::var("GRID_CRASH_MINUTES").ok().and_then(|text| text.parse::<u64>().ok());
    let until = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));
    let store = "
instances:
  - name: ''
    storages: [!lru-storage &cas {size: 1G}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}]
";
    let store = Arc::new(Server::start(store).await);
    let databases = Pair::start().await;
    let url = databases.create("queue");
    let config = replica_config(&url, &store);
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(Server::start(&config).await);
    }
    let lazily = |server: &Server| {
        let endpoint = Endpoint::from_shared(server.address().to_owned()).unwrap();
        endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy()
    };
    let world = Arc::new(World {
        replicas: replicas.iter().map(lazily).collect(),
        shown: Mutex::default(),
        finished: AtomicU64::new(0),
        over: AtomicBool::new(false),
        next: AtomicUsize::new(0),
    });
    let mut bots = JoinSet::new();
    (0..BOTS).for_each(|number| drop(bots.spawn(bot(Arc::clone(&world), number))));
    let mut clients = JoinSet::new();
    (0..CLIENTS).for_each(|n| drop(clients.spawn(client(Arc::clone(&world), Arc::clone(&store), n))));

    let trouble = async {
        let all = crash(replicas, &config, databases, until).await;
        world.over.store(true, Ordering::Relaxed);
        timeout(PATIENCE, async {
            while let Some(ended) = clients.join_next().await {
                ended.unwrap();
            }
        })
        .await
        .expect("every client gets its answer");
        settled(&url).await;
        all
    };
    let (_, _, crashes) = tokio::select! {
        died = bots.join_next() => panic!("a bot failed: {died:?}"),
        all = trouble => all,
    };
    let finished = world.finished.load(Ordering::Relaxed);
    println!("{crashes} crashes, {finished} actions");
    assert!(finished > CLIENTS as u64, "only {finished} actions got through");
}

/// Waits until no job waits or runs: what a client asked for and never heard of ends too.
async fn settled(url: &str) {
    let Database::Postgres(pool) = Database::open(url, DatabaseOptions::default()).await.unwrap() else {
        panic!("{url} is PostgreSQL's")
    };
    let queue = PostgresQueue::new(pool);
    let empty = async {
        while !queue.depths().await.unwrap().is_empty() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, empty).await.expect("every job ends");
}
