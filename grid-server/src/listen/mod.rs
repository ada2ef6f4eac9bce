//! The addresses that the server listens on: TCP, UNIX sockets, TLS and mutual TLS.

mod clients;
mod places;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use grid_config::model::{Channel, Endpoint, ServerCredentials, Transport};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

pub(crate) use places::Places;
pub(crate) use tls::TlsFiles;

use crate::settings;

/// Why an address can't be served.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    #[error("can't listen on {address}: {error}")]
    Bind { address: String, error: io::Error },
    #[error(
        "{address} has no key pair: give the channel `credentials`, or put {key} and {certificate} in place; or say \
         `insecure-mode: yes` in the channel (--allow-insecure for all) to serve without TLS"
    )]
    NoKeyPair { address: String, key: PathBuf, certificate: PathBuf },
    #[error(
        "{address}: a UNIX socket is guarded by its file's permissions; remove `credentials` and say `insecure-mode: yes`"
    )]
    TlsOnUnix { address: String },
    #[error("{path}: {reason}")]
    KeyPair { path: PathBuf, reason: String },
}

/// What gRPC speaks, by its ALPN name.
pub(crate) const GRPC: &[&str] = &["h2"];
/// What clients of plain HTTP may speak.
pub(crate) const HTTP: &[&str] = &["h2", "http/1.1"];

/// A bound address with what is spoken there.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Plain HTTP/2 over TCP.
    Plain(TcpListener),
    /// HTTP/2 over TLS.
    Tls(TcpListener, TlsFiles),
    /// Plain HTTP/2 over a UNIX socket.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds a channel's address. Without TLS it does so only where that is said, on loopback, and on UNIX sockets.
    pub(crate) async fn bind(
        channel: &Channel,
        allow_insecure: bool,
        protocols: &'static [&'static str],
    ) -> Result<Self, ListenError> {
        let address = describe(&channel.endpoint);
        match &channel.endpoint {
            Endpoint::Unix(_) if matches!(channel.transport, Transport::Tls(_)) => {
                Err(ListenError::TlsOnUnix { address })
            }
            Endpoint::Unix(path) => bind_unix(path).map_err(|error| ListenError::Bind { address, error }),
            Endpoint::Tcp { host, port } => {
                let credentials = credentials(channel, host, allow_insecure, &address)?;
                let bound = TcpListener::bind((host.as_str(), *port)).await;
                let listener = bound.map_err(|error| ListenError::Bind { address, error })?;
                Ok(match credentials {
                    Some(credentials) => Self::Tls(listener, TlsFiles::load(credentials, protocols)?),
                    None => Self::Plain(listener),
                })
            }
        }
    }

    /// The address for logs: with the port that was found free, where the configuration asked for any.
    pub(crate) fn describe(&self) -> String {
        let tcp = |listener: &TcpListener| {
            listener.local_addr().map_or_else(|_| "?".to_owned(), |address: SocketAddr| address.to_string())
        };
        match self {
            Self::Plain(listener) => format!("http://{}", tcp(listener)),
            Self::Tls(listener, files) if files.asks_clients() => {
                format!("https://{} (mutual TLS)", tcp(listener))
            }
            Self::Tls(listener, _) => format!("https://{}", tcp(listener)),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }
}

/// The key pair of a channel; `None` where it is served without TLS.
fn credentials(
    channel: &Channel,
    host: &str,
    allow_insecure: bool,
    address: &str,
) -> Result<Option<ServerCredentials>, ListenError> {
    match &channel.transport {
        Transport::Insecure => Ok(None),
        Transport::Tls(credentials) => Ok(Some(credentials.clone())),
        Transport::DefaultTls => {
            let home = settings::config_home().unwrap_or_default();
            let (key, certificate) = (home.join("server.key"), home.join("server.crt"));
            if key.exists() && certificate.exists() {
                Ok(Some(ServerCredentials { key, certificate, client_authorities: None }))
            } else if allow_insecure || is_loopback(host) {
                Ok(None)
            } else {
                Err(ListenError::NoKeyPair { address: address.to_owned(), key, certificate })
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Binds a UNIX socket, over one that a process left behind. Whatever else stands there is left alone.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            let what = "what stands there is no socket; move it away, or choose another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_err() => std::fs::remove_file(path)?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    UnixListener::bind(path).map(|listener| Listener::Unix(listener, path.to_owned()))
}

fn describe(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Endpoint::Tcp { host, port } => format!("{host}:{port}"),
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(host: &str, transport: Transport) -> Channel {
        Channel { endpoint: Endpoint::Tcp { host: host.to_owned(), port: 0 }, transport }
    }

    #[tokio::test]
    async fn plain_http_needs_loopback_or_a_word() {
        let bind = |host: &'static str, transport, allow| async move {
            Listener::bind(&channel(host, transport), allow, GRPC).await
        };
        assert!(bind("127.0.0.1", Transport::DefaultTls, false).await.is_ok());
        assert!(bind("0.0.0.0", Transport::Insecure, false).await.is_ok());
        assert!(bind("0.0.0.0", Transport::DefaultTls, true).await.is_ok());
        let error = bind("0.0.0.0", Transport::DefaultTls, false).await.unwrap_err().to_string();
        assert!(error.contains("server.key") && error.contains("--allow-insecure"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.sock");
        let channel = Channel { endpoint: Endpoint::Unix(path.clone()), transport: Transport::Insecure };
        let first = Listener::bind(&channel, false, GRPC).await.unwrap();
        assert!(Listener::bind(&channel, false, GRPC).await.is_err(), "somebody listens there");
        drop(first);
        assert!(path.exists());
        assert!(Listener::bind(&channel, false, GRPC).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "not to be lost").unwrap();
        let channel = Channel { endpoint: Endpoint::Unix(path.clone()), transport: Transport::Insecure };
        let error = Listener::bind(&channel, false, GRPC).await.unwrap_err().to_string();
        assert!(error.contains("notes") && error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not to be lost");
    }

    #[tokio::test]
    async fn a_key_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.key");
        std::fs::write(&file, "not a key").unwrap();
        let credentials =
            ServerCredentials { key: file.clone(), certificate: file.clone(), client_authorities: None };
        let error = Listener::bind(&channel("127.0.0.1", Transport::Tls(credentials)), false, GRPC)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("server.key"), "{error}");
    }
}
