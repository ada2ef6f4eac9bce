//! Connections to the grid: addresses by DNS, TLS, and the token that proves who this worker is.
//!
//! A channel asks DNS again whenever it connects and starts at another address each time, so the channels of
//! many workers spread over all replicas, and a replica that is away is passed over. Servers age connections,
//! which moves channels to new replicas. Neighbours: `bot` and `cas` call through [`Remote`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::tls::Tls;

/// How long one attempt to connect to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings: a peer that vanished without a word is noticed after the interval and the timeout.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the token's file is looked at.
const TOKEN_CHECK: Duration = Duration::from_secs(5);
/// HTTP/2 window of a stream, large enough for a fast link.
const STREAM_WINDOW: u32 = 8 << 20;
/// HTTP/2 frames: what is read in one call to the system.
const FRAME: u32 = 256 << 10;
/// Metadata of an answer: a bot is told of the log streams of all its leases in it, some 400 bytes each.
const METADATA: u32 = 1 << 20;

/// A channel that authenticates every call.
pub type Remote = InterceptedService<Channel, Token>;

/// How servers are reached.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// PEM file of the authorities to trust, instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM files of this worker's certificate chain and key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
}

/// A channel to `url`, connected when it is first used.
///
/// # Errors
/// Where the URL or a file is not usable; each error names which.
pub fn remote(url: &str, credentials: &Credentials) -> anyhow::Result<Remote> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
    let default_port = match uri.scheme_str() {
        Some("http" | "grpc") => 80,
        Some("https" | "grpcs") => 443,
        _ => anyhow::bail!("{url:?}: http://HOST:PORT or https://HOST:PORT is needed"),
    };
    let host = uri.host().with_context(|| format!("{url:?} names no host"))?.to_owned();
    let port = uri.port_u16().unwrap_or(default_port);
    let scheme = if default_port == 443 { "https" } else { "http" };
    let authority = uri.authority().map_or_else(|| host.clone(), ToString::to_string);
    let endpoint = Endpoint::from_static("http://server")
        // The connector speaks TLS by itself; of it the endpoint needs to know the scheme of requests only.
        .origin(format!("{scheme}://{authority}").parse()?)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .max_frame_size(FRAME)
        .http2_max_header_list_size(METADATA)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 4);
    let host = host.trim_matches(['[', ']']);
    let tls = (scheme == "https").then(|| Tls::new(host, credentials)).transpose()?.map(Arc::new);
    let addresses = Arc::new(Addresses { host: host.to_owned(), port, turn: first_turn() });
    let connector = tower::service_fn(move |_: Uri| {
        let (addresses, tls) = (addresses.clone(), tls.clone());
        async move {
            let stream = addresses.connect().await?;
            let stream: Box<dyn Stream> = match tls {
                Some(tls) => Box::new(tokio::time::timeout(CONNECT_TIMEOUT, tls.handshake(stream)).await??),
                None => Box::new(stream),
            };
            std::io::Result::Ok(TokioIo::new(stream))
        }
    });
    let token = Token::new(credentials.token_file.clone())?;
    Ok(InterceptedService::new(endpoint.connect_with_connector_lazy(connector), token))
}

/// A connection, secure or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The addresses of one name, taken in turn.
#[derive(Debug)]
struct Addresses {
    host: String,
    port: u16,
    turn: AtomicUsize,
}

/// Somewhere random, so that workers started together don't all begin with the same replica.
fn first_turn() -> AtomicUsize {
    AtomicUsize::new(rand::random_range(0..1024))
}

impl Addresses {
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let mut found: Vec<SocketAddr> =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect();
        // Resolvers shuffle or sort as they like; the turn needs a steady order.
        found.sort_unstable();
        found.dedup();
        let count = found.len();
        if count > 0 {
            found.rotate_left(self.turn.fetch_add(1, Ordering::Relaxed) % count);
        }
        let mut last =
            std::io::Error::new(std::io::ErrorKind::NotFound, format!("{}: no address", self.host));
        for address in found {
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed),
            }
        }
        Err(last)
    }
}

/// Adds `authorization: Bearer …` to calls; the file is read again after it changed.
#[derive(Clone, Debug)]
pub struct Token {
    source: Option<Arc<TokenFile>>,
}

#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    state: Mutex<TokenState>,
}

#[derive(Debug)]
struct TokenState {
    header: MetadataValue<tonic::metadata::Ascii>,
    modified: Option<SystemTime>,
    checked: Instant,
}

impl Token {
    fn new(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self { source: None }) };
        let (header, modified) = load(&path)?;
        let state = Mutex::new(TokenState { header, modified, checked: Instant::now() });
        Ok(Self { source: Some(Arc::new(TokenFile { path, state })) })
    }
}

fn load(path: &Path) -> anyhow::Result<(MetadataValue<tonic::metadata::Ascii>, Option<SystemTime>)> {
    let what = || format!("the token file {}", path.display());
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let text = std::fs::read_to_string(path).with_context(what)?;
    // Further lines are tokens that are let in besides.
    let token = text.trim().lines().next().unwrap_or_default().trim_end();
    let mut header: MetadataValue<_> =
        format!("Bearer {token}").parse().with_context(|| format!("{}: not plain text", what()))?;
    header.set_sensitive(true);
    Ok((header, modified))
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.source {
            let mut state = file.state.lock();
            if state.checked.elapsed() >= TOKEN_CHECK {
                state.checked = Instant::now();
                let modified = std::fs::metadata(&file.path).and_then(|m| m.modified()).ok();
                if modified != state.modified {
                    match load(&file.path) {
                        Ok((header, modified)) => (state.header, state.modified) = (header, modified),
                        Err(error) => tracing::warn!("keeping the token as it was: {error:#}"),
                    }
                }
            }
            request.metadata_mut().insert("authorization", state.header.clone());
        }
        Ok(request)
    }
}
