//! Replicas that are added get their share of the bots: connections age, and whoever comes back is sent to another.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{BotSession, CreateBotSessionRequest, UpdateBotSessionRequest};
use grid_scheduler_sql::testing::postgres_url;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use support::Server;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::Endpoint;
use tower::service_fn;

const BOTS: usize = 60;
/// In a minute, the issue says; connections here live for three seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a headless Service is to its clients: addresses, in another order for each who asks.
#[derive(Default)]
struct Service {
    addresses: Mutex<Vec<String>>,
    asked: AtomicUsize,
    /// To which replica each bot was sent last, and how often since the replicas were others.
    sent: Mutex<Vec<(usize, u32)>>,
    moved: Notify,
}

impl Service {
    fn resolve(&self, bot: usize) -> String {
        let addresses = self.addresses.lock();
        let chosen = self.asked.fetch_add(1, Ordering::Relaxed) % addresses.len();
        let mut sent = self.sent.lock();
        sent[bot] = (chosen, sent[bot].1 + 1);
        self.moved.notify_one();
        addresses[chosen].trim_start_matches("http://").to_owned()
    }

    fn replicas(&self, servers: &[Server]) {
        *self.addresses.lock() = servers.iter().map(|server| server.address().to_owned()).collect();
        *self.sent.lock() = vec![(0, 0); BOTS];
    }

    /// How many bots are where, once each has been sent somewhere.
    async fn spread(&self) -> [usize; 3] {
        while self.sent.lock().iter().any(|(_, times)| *times == 0) {
            self.moved.notified().await;
        }
        let sent = self.sent.lock();
        [0, 1, 2].map(|replica| sent.iter().filter(|(chosen, _)| *chosen == replica).count())
    }
}

async fn bot(service: Arc<Service>, number: usize) {
    let connect = service_fn(move |_| {
        let address = service.resolve(number);
        async move { TcpStream::connect(address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://replicas").connect_with_connector_lazy(connect);
    let mut client = BotsClient::new(channel);
    let session = BotSession { bot_id: format!("bot-{number}"), status: 1, ..BotSession::default() };
    let create = CreateBotSessionRequest { parent: String::new(), bot_session: Some(session) };
    let mut session = client.create_bot_session(timed(create)).await.unwrap().into_inner();
    loop {
        let update = UpdateBotSessionRequest {
            name: session.name.clone(),
            bot_session: Some(session.clone()),
            ..UpdateBotSessionRequest::default()
        };
        // A call that meets the end of its connection is made again, as bots do.
        if let Ok(answer) = client.update_bot_session(timed(update)).await {
            session = answer.into_inner();
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(5));
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_spread_over_replicas_that_are_added() {
    let url = tokio::task::spawn_blocking(postgres_url).await.unwrap();
    let config = format!(
        "
connections: [!sql-connection &database {{connection-string: '{url}', automigrate: yes}}]
grpc-server-options: {{grpc.max_connection_age_ms: 3000}}
instances:
  - name: ''
    storages: [!lru-storage &cas {{size: 1M}}]
    schedulers: [!sql-scheduler &queue {{storage: *cas, sql: *database}}]
    services: [!bots {{scheduler: *queue}}]
"
    );
    let mut servers = vec![Server::start(&config).await];
    let service = Arc::new(Service::default());
    service.replicas(&servers);
    let mut bots = JoinSet::new();
    (0..BOTS).for_each(|number| drop(bots.spawn(bot(Arc::clone(&service), number))));
    assert_eq!(timeout(PATIENCE, service.spread()).await.unwrap(), [BOTS, 0, 0]);

    for _ in 0..2 {
        servers.push(Server::start(&config).await);
    }
    service.replicas(&servers);
    let spread = tokio::select! {
        spread = timeout(PATIENCE, service.spread()) => spread.unwrap(),
        died = bots.join_next() => panic!("a bot's call failed: {died:?}"),
    };
    let even = BOTS / 3;
    assert!(spread.iter().all(|bots| bots.abs_diff(even) * 4 <= even), "{spread:?}");
}
