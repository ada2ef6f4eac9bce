//! [`RedisConnection`]: how this process reaches a Redis server: address or sentinels, password, what errors mean.
//!
//! The Redis storage, index, existence cache and action cache use it. All share one connection, over which calls are
//! multiplexed; it is made anew when it broke, when the server became a replica, and, with sentinels, at whichever
//! server is the primary by then. Callers see to it that a command can be made twice.

mod fault;
pub mod keys;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisResult, ScriptInvocation,
};
use tokio::sync::Mutex;

use crate::StoreError;
use crate::wait::until_available;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: long enough for megabytes, and for scripts of others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

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
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    current: Option<MultiplexedConnection>,
    /// Counts connections, so that one that broke is given up once.
    number: u64,
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
        Self { options, link: Mutex::default() }
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

    /// Makes a pipeline once, without waiting for a server that is away: for what can be done without.
    ///
    /// # Errors
    /// What the answer meant.
    pub async fn attempt<T: FromRedisValue + Send>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.once(&|mut link| async move { pipeline.query_async(&mut link).await }.boxed())
            .await
            .map_err(|broken| broken.error)
    }

    async fn call<T>(&self, request: &Request<'_, T>) -> Result<T, StoreError> {
        let breaks = AtomicU32::new(0);
        let waited = until_available(|| async {
            match self.once(request).await {
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

    async fn once<T>(&self, request: &Request<'_, T>) -> Result<T, Broken> {
        let (number, link) = self.connected().await.map_err(|error| Broken { error, connected: false })?;
        match request(link).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if fault::is_of_connection(&error) {
                    self.give_up(number).await;
                }
                let connected = !fault::is_of_server_start(&error);
                Err(Broken { error: fault::meaning(&self.options.name, &error), connected })
            }
        }
    }

    /// The connection and its number, made if there is none.
    async fn connected(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut link = self.link.lock().await;
        if let Some(current) = &link.current {
            return Ok((link.number, current.clone()));
        }
        let made = tokio::time::timeout(CONNECT_TIMEOUT * 2, self.connect().boxed()).await;
        let made = made.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        let made = made.map_err(|error| fault::meaning(&self.options.name, &error))?;
        link.number += 1;
        link.current = Some(made.clone());
        Ok((link.number, made))
    }

    async fn give_up(&self, number: u64) {
        let mut link = self.link.lock().await;
        if link.number == number {
            link.current = None;
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let options = &self.options;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let protocol = if options.resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        if let Some(master) = &options.sentinel_master {
            return self.connect_by_sentinels(master, protocol, &config).await;
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
        &self,
        master: &str,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let options = &self.options;
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

    /// Whether the server answers.
    ///
    /// # Errors
    /// What the answer meant.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.attempt(redis::pipe().cmd("PING").ignore()).await
    }
}

/// What is asked of a connection. The library's futures are deep: each is a box of its own.
type Request<'a, T> = dyn Fn(MultiplexedConnection) -> BoxFuture<'a, RedisResult<T>> + Sync + 'a;

/// A call that failed, and whether there was a connection for it.
struct Broken {
    error: StoreError,
    connected: bool,
}
