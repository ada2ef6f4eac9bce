//! Opens the connection: TCP or a Unix socket, TLS on top where the address says so, HTTP/2 inside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::exit::Failure;
use crate::remote::address::Address;
use crate::remote::retry::Retry;
use crate::remote::tls::{self, Identity};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Proxies forget silent connections after a minute or so; an Execute may be silent for an hour.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A channel to `remote`, connected.
pub(crate) async fn connect(remote: &str, identity: &Identity, retry: Retry) -> Result<Channel, Failure> {
    let address = Address::parse(remote)?;
    let tls = match &address {
        Address::Tcp { host, secure: true, .. } => Some(Tls::new(host, identity)?),
        _ => None,
    };
    let endpoint =
        endpoint(&address).map_err(|error| Failure::Usage(format!("--remote {remote:?}: {error}")))?;
    let tried = retry
        .run(|| {
            let (endpoint, address, tls) = (endpoint.clone(), address.clone(), tls.clone());
            let connector = service_fn(move |_: Uri| open(address.clone(), tls.clone()).boxed());
            async move {
                endpoint
                    .connect_with_connector(connector)
                    .await
                    .map_err(|error| Status::unavailable(cause(&error)))
            }
        })
        .await;
    tried
        .map_err(|status| Failure::Connect { remote: remote.to_owned(), reason: status.message().to_owned() })
}

fn endpoint(address: &Address) -> Result<Endpoint, String> {
    let origin = address.origin().map_err(|error| error.to_string())?;
    // The connector speaks TLS by itself; the endpoint needs to know of it for the scheme of requests only.
    let endpoint = Endpoint::from_static("http://localhost").origin(origin);
    let endpoint = endpoint.user_agent(concat!("grid/", env!("CARGO_PKG_VERSION")));
    Ok(endpoint
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// What a TLS connection needs.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    fn new(host: &str, identity: &Identity) -> Result<Self, Failure> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| {
            Failure::Usage(format!("--remote: {host:?} is neither a host name nor an IP address"))
        })?;
        let config = tls::client_config(identity)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

async fn open(address: Address, tls: Option<Tls>) -> io::Result<TokioIo<Stream>> {
    let stream: Box<dyn Duplex> = match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Address::Tcp { host, port, .. } => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    };
    let stream = match tls {
        Some(tls) => Box::new(tls.connector.connect(tls.name, stream).await?),
        None => stream,
    };
    Ok(TokioIo::new(Stream(stream)))
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any of the kinds of connection.
struct Stream(Box<dyn Duplex>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The last cause of `error`, which is the one that says something.
fn cause(error: &tonic::transport::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
