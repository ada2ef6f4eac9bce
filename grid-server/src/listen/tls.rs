//! TLS with key pairs that are read again when their files change, so that a renewed certificate needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use grid_config::model::ServerCredentials;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::ListenError;
use super::clients::Pinned;
use super::places::{Places, Taken};

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How many connections may wait to be taken up.
const WAITING: usize = 128;

/// A key pair with the files that it came from.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    credentials: ServerCredentials,
    protocols: &'static [&'static str],
    current: Mutex<(Vec<Option<SystemTime>>, Arc<ServerConfig>)>,
}

impl TlsFiles {
    /// Reads the files, for connections that speak one of `protocols`.
    pub(super) fn load(
        credentials: ServerCredentials,
        protocols: &'static [&'static str],
    ) -> Result<Self, ListenError> {
        let stamps = stamps(&credentials);
        let config = read(&credentials, protocols)?;
        Ok(Self { credentials, protocols, current: Mutex::new((stamps, config)) })
    }

    /// Whether clients must show a certificate.
    pub(crate) const fn asks_clients(&self) -> bool {
        self.credentials.client_authorities.is_some()
    }

    /// The configuration of the files as they are now. Files that are wrong leave the last that were right in force.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        let stamps = stamps(&self.credentials);
        if current.0 != stamps {
            match read(&self.credentials, self.protocols) {
                Ok(config) => {
                    tracing::info!(certificate = %self.credentials.certificate.display(), "TLS files were read again");
                    current.1 = config;
                }
                Err(error) => {
                    tracing::error!(%error, "TLS files changed and can't be used; the last ones stay");
                }
            }
            current.0 = stamps;
        }
        Arc::clone(&current.1)
    }
}

fn stamps(credentials: &ServerCredentials) -> Vec<Option<SystemTime>> {
    let files =
        [Some(&credentials.key), Some(&credentials.certificate), credentials.client_authorities.as_ref()];
    let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    files.into_iter().flatten().map(modified).collect()
}

fn read(credentials: &ServerCredentials, protocols: &[&str]) -> Result<Arc<ServerConfig>, ListenError> {
    let chain = certificates(&credentials.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&credentials.key)
        .map_err(|error| wrong(&credentials.key, format!("is no private key in PEM: {error}")))?;
    let builder = ServerConfig::builder();
    let builder = match &credentials.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = Pinned::new(certificates(path)?).map_err(|problem| wrong(path, problem))?;
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| wrong(&credentials.certificate, error.to_string()))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(wrong(path, "has no certificate in PEM".to_owned())),
        Err(error) => Err(wrong(path, format!("has no certificate in PEM: {error}"))),
    }
}

fn wrong(path: &Path, reason: String) -> ListenError {
    ListenError::KeyPair { path: path.to_owned(), reason }
}

/// Connections whose handshake is done, each with its place.
pub(crate) type Handshakes = ReceiverStream<io::Result<(TlsStream<TcpStream>, Taken)>>;

impl TlsFiles {
    /// Takes connections and shakes hands with them, each in a task of its own, so that a slow one holds up no other.
    pub(crate) fn accept(self, listener: TcpListener, places: Places) -> Handshakes {
        let (ready, connections) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut accepted = pin!(places.tcp(listener));
            loop {
                tokio::select! {
                    Some(accepted) = accepted.next() => match accepted {
                        Ok(connection) => {
                            drop(tokio::spawn(shake(self.config(), connection, ready.clone())));
                        }
                        Err(error) => {
                            let _ = ready.send(Err(error)).await;
                        }
                    },
                    () = ready.closed() => return,
                }
            }
        });
        ReceiverStream::new(connections)
    }
}

async fn shake(
    config: Arc<ServerConfig>,
    (stream, place): (TcpStream, Taken),
    ready: mpsc::Sender<io::Result<(TlsStream<TcpStream>, Taken)>>,
) {
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => drop(ready.send(Ok((stream, place))).await),
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}
