//! [`RedisConnection`]: how this process reaches a Redis server: address or sentinels, password, what errors mean.
//!
//! The Redis storage, index, existence cache and action cache use it. All share one connection, over which calls are
//! multiplexed; it is made anew when it broke, when the server became a replica, and, with sentinels, at whichever
//! server is the primary by then: by one task, whoever waits for it, and not again just after that failed. Callers see to
//! it that a command can be made twice.

mod fault;
pub mod keys;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisResult, ScriptInvocation,
};
use tokio::time::Instant;

use crate::StoreError;
use crate::wait::{self, until_available};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: long enough for megabytes, and for scripts of others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection and an answer each may take where one can do without.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long after a failure no other connection is tried.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// How a [`RedisConnection`] is made.
#[derive(Clone)]
pub struct RedisConnectionOptions {
    /// The host of the server, or of the sentinels.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The server's password; sentinels are asked without one.
    pub password: Option<String>,
    /// The number of the database.
    pub db: u32,
    /// The name under which sentinels know the primary; then the address is theirs.
    pub sentinel_master: Option<String>,
    /// How often a call is made again after the connection broke under it; a server that is away is waited for.
    pub retries: u32,
    /// Whether to speak RESP 3 rather than 2.
    pub resp3: bool,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
}

impl fmt::Debug for RedisConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnectionOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A way to a Redis server.
#[derive(Debug)]
pub struct RedisConnection {
    options: RedisConnectionOptions,
    line: Arc<Line>,
}

/// The one connection, and whose turn it is to make it.
#[derive(Debug, Default)]
struct Line {
    link: Mutex<Link>,
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Link {
    current: Option<MultiplexedConnection>,
    /// Counts connections, so that one that broke is given up once.
    number: u64,
    /// Why the last try failed, and when.
    failed: Option<(StoreError, Instant)>,
}

impl Link {
    /// What is known without a try: the connection, or why there is none.
    fn known(&self) -> Option<Result<(u64, MultiplexedConnection), StoreError>> {
        if let Some(current) = &self.current {
            return Some(Ok((self.number, current.clone())));
        }
        let lately = self.failed.as_ref().filter(|(_, when)| when.elapsed() < FAILED_FOR);
        lately.map(|(error, _)| Err(error.clone()))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("number", &self.number).finish_non_exhaustive()
    }
}

impl RedisConnection {
    /// Prepares the way; nothing is sent yet, and the server need not be there.
    #[must_use]
    pub fn new(options: RedisConnectionOptions) -> Self {
        Self { options, line: Arc::default() }
    }

    /// Its place in the configuration.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.options.name
    }

    /// Makes a command, and again while the server is away, for a minute at most.
    ///
    /// # Errors
    /// What the last answer meant.
    pub async fn command<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.call(&|mut link| async move { command.query_async(&mut link).await }.boxed()).await
    }

    /// As [`RedisConnection::command`], with the number of times that it was sent: after the first, an answer may speak of
    /// what an earlier one did.
    ///
    /// # Errors
    /// What the last answer meant.
    pub async fn counted<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<(T, u32), StoreError> {
        let sent = AtomicU32::new(0);
        let request = |mut link| {
            sent.fetch_add(1, Ordering::Relaxed);
            async move { command.query_async(&mut link).await }.boxed()
        };
        let answer = self.call(&request).await?;
        Ok((answer, sent.into_inner()))
    }

    /// As [`RedisConnection::command`], of several commands in one round trip.
    ///
    /// # Errors
    /// What the last answer meant; the first failure among the commands.
    pub async fn pipeline<T: FromRedisValue + Send>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.call(&|mut link| async move { pipeline.query_async(&mut link).await }.boxed()).await
    }

    /// As [`RedisConnection::command`], of a script.
    ///
    /// # Errors
    /// What the last answer meant.
    pub async fn script<T: FromRedisValue + Send>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.call(&|mut link| async move { script.invoke_async(&mut link).await }.boxed()).await
    }

    /// Makes a pipeline once, without waiting for a server that is away or slow: for what can be done without.
    ///
    /// # Errors
    /// What the answer meant.
    pub async fn attempt<T: FromRedisValue + Send>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let request = |mut link| async move { pipeline.query_async(&mut link).await }.boxed();
        self.once(&request, Some(ATTEMPT_TIMEOUT)).await.map_err(|broken| broken.error)
    }

    async fn call<T>(&self, request: &Request<'_, T>) -> Result<T, StoreError> {
        let breaks = AtomicU32::new(0);
        let waited = until_available(|| async {
            match self.once(request, None).await {
                Ok(answer) => Ok(Ok(answer)),
                // Only what is to be waited for is an error in here.
                Err(Broken { error, connected: true })
                    if breaks.fetch_add(1, Ordering::Relaxed) >= self.options.retries =>
                {
                    Ok(Err(error))
                }
                Err(Broken { error, .. }) => Err(error),
            }
        });
        waited.await.unwrap_or_else(Err)
    }

    /// One try, of which neither part may take longer than `limit`.
    async fn once<T>(&self, request: &Request<'_, T>, limit: Option<Duration>) -> Result<T, Broken> {
        let connected = self.connected(limit.unwrap_or_else(|| wait::limit(CONNECT_TIMEOUT * 2)));
        let (number, link) = connected.await.map_err(|error| Broken { error, connected: false })?;
        let answer = tokio::time::timeout(limit.unwrap_or(ANSWER_TIMEOUT * 2), request(link)).await;
        match answer.unwrap_or_else(|_| Err(late())) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if fault::is_of_connection(&error) {
                    self.give_up(number);
                }
                let connected = !fault::is_of_server_start(&error);
                Err(Broken { error: fault::meaning(&self.options.name, &error), connected })
            }
        }
    }

    /// The connection and its number, made if there is none. It goes on being made if that takes longer than `limit`.
    async fn connected(&self, limit: Duration) -> Result<(u64, MultiplexedConnection), StoreError> {
        if let Some(known) = self.line.link.lock().known() {
            return known;
        }
        let made = tokio::spawn(make(Arc::clone(&self.line), self.options.clone()));
        match tokio::time::timeout(limit, made).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) | Err(_) => Err(fault::meaning(&self.options.name, &late())),
        }
    }

    fn give_up(&self, number: u64) {
        let mut link = self.line.link.lock();
        if link.number == number {
            link.current = None;
        }
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// What the answer meant.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.attempt(redis::pipe().cmd("PING").ignore()).await
    }
}

/// Makes the connection, unless somebody just did, or failed to.
async fn make(
    line: Arc<Line>,
    options: RedisConnectionOptions,
) -> Result<(u64, MultiplexedConnection), StoreError> {
    let _turn = line.making.lock().await;
    if let Some(known) = line.link.lock().known() {
        return known;
    }
    let made = tokio::time::timeout(CONNECT_TIMEOUT * 2, connect(&options).boxed()).await;
    let made = made.unwrap_or_else(|_| Err(late()));
    let mut link = line.link.lock();
    match made {
        Ok(made) => {
            link.number += 1;
            (link.current, link.failed) = (Some(made.clone()), None);
            Ok((link.number, made))
        }
        Err(error) => {
            let error = fault::meaning(&options.name, &error);
            link.failed = Some((error.clone(), Instant::now()));
            Err(error)
        }
    }
}

async fn connect(options: &RedisConnectionOptions) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    let protocol = if options.resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
    if let Some(master) = &options.sentinel_master {
        return connect_by_sentinels(options, master, protocol, &config).await;
    }
    let mut settings = RedisConnectionInfo::default().set_db(options.db.into()).set_protocol(protocol);
    if let Some(password) = &options.password {
        settings = settings.set_password(password);
    }
    let address = (options.host.as_str(), options.port).into_connection_info()?;
    let client = Client::open(address.set_redis_settings(settings))?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn connect_by_sentinels(
    options: &RedisConnectionOptions,
    master: &str,
    protocol: ProtocolVersion,
    config: &AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    let addresses = tokio::net::lookup_host((options.host.as_str(), options.port)).await?;
    let addresses = addresses.map(|at| ConnectionAddr::Tcp(at.ip().to_string(), at.port()));
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(options.db.into())
        .set_client_to_redis_protocol(protocol)
        .set_client_to_sentinel_protocol(protocol);
    if let Some(password) = &options.password {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build()?.get_async_connection_with_config(config).await
}

fn late() -> redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// What is asked of a connection. The library's futures are deep: each is a box of its own.
type Request<'a, T> = dyn Fn(MultiplexedConnection) -> BoxFuture<'a, RedisResult<T>> + Sync + 'a;

/// A call that failed, and whether there was a connection for it.
struct Broken {
    error: StoreError,
    connected: bool,
}
