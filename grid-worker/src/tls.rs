//! [`Tls`]: the worker's side of TLS, from files that may change while it runs.
//!
//! Certificates of a cluster live for days and workers for months. So the files are read for every new connection,
//! and servers age connections. Files that can't be used, for they are just being replaced, leave the last good ones
//! in force. Neighbour: `connect` makes the connections.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect::Credentials;

const HTTP2: &[u8] = b"h2";

/// What the connections to one host need.
#[derive(Debug)]
pub(crate) struct Tls {
    name: ServerName<'static>,
    credentials: Credentials,
    /// The system's authorities, read once; none where a file names them.
    system: RootCertStore,
    last: Mutex<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads the files a first time.
    ///
    /// # Errors
    /// Naming the file that can't be used.
    pub(crate) fn new(host: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host:?} is neither a host name nor an IP address"))?;
        let mut system = RootCertStore::empty();
        if credentials.tls_ca.is_none() {
            let found = rustls_native_certs::load_native_certs().certs;
            let (added, _) = system.add_parsable_certificates(found);
            anyhow::ensure!(added > 0, "the system has no authorities to trust; --tls-ca is needed");
        }
        let last = Mutex::new(read(credentials, &system)?);
        Ok(Self { name, credentials: credentials.clone(), system, last })
    }

    /// Makes a connection secure, with the files as they are now.
    ///
    /// # Errors
    /// Where the two don't trust each other, or the server speaks no HTTP/2.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.config());
        let stream = connector.connect(self.name.clone(), stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
            Ok(stream)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the server speaks no HTTP/2 over TLS"))
        }
    }

    fn config(&self) -> Arc<ClientConfig> {
        let mut last = self.last.lock();
        match read(&self.credentials, &self.system) {
            Ok(config) => *last = config,
            Err(error) => tracing::warn!("keeping the TLS files as they were: {error:#}"),
        }
        last.clone()
    }
}

fn read(credentials: &Credentials, system: &RootCertStore) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = system.clone();
    if let Some(file) = &credentials.tls_ca {
        for certificate in certificates(file)? {
            roots.add(certificate).with_context(|| format!("{}", file.display()))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &credentials.tls_identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            // Never shows what the file holds.
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|_| anyhow::anyhow!("{} can't be read as a private key in PEM", key.display()))?;
            builder
                .with_client_auth_cert(certificates(chain)?, secret)
                .with_context(|| format!("{} and {}", chain.display(), key.display()))?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let what = || format!("{} can't be read as certificates in PEM", file.display());
    let read: Vec<_> = CertificateDer::pem_file_iter(file)
        .with_context(what)?
        .collect::<Result<_, _>>()
        .with_context(what)?;
    anyhow::ensure!(!read.is_empty(), "{} holds no certificate in PEM", file.display());
    Ok(read)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// An authority, what it signed for `localhost`, and a server that trusts nobody else.
    struct Grid {
        authority: String,
        chain: String,
        key: String,
        acceptor: TlsAcceptor,
    }

    fn grid(alpn: &[u8]) -> Grid {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let secret = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Grid { authority: authority.pem(), chain: certificate.pem(), key: key.serialize_pem(), acceptor }
    }

    /// Whether both sides come to an understanding.
    async fn meet(tls: &Tls, grid: &Grid) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        let (client, server) = tokio::join!(tls.handshake(client), grid.acceptor.accept(server));
        client.is_ok() && server.is_ok()
    }

    #[tokio::test]
    async fn files_are_read_for_each_connection_and_broken_ones_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let put = |grid: &Grid| {
            for (name, text) in [("ca", &grid.authority), ("chain", &grid.chain), ("key", &grid.key)] {
                std::fs::write(file(name), text).unwrap();
            }
        };
        let credentials = Credentials {
            tls_ca: Some(file("ca")),
            tls_identity: Some((file("chain"), file("key"))),
            token_file: None,
        };
        let (old, new) = (grid(b"h2"), grid(b"h2"));
        put(&old);
        let tls = Tls::new("localhost", &credentials).unwrap();
        assert!(meet(&tls, &old).await);
        assert!(!meet(&tls, &new).await, "another authority");
        put(&new);
        assert!(meet(&tls, &new).await);
        std::fs::write(file("key"), "-----BEGIN").unwrap();
        assert!(meet(&tls, &new).await, "the last good files");
        let error = format!("{:#}", Tls::new("localhost", &credentials).unwrap_err());
        assert!(error.contains("/key can't be read"), "{error}");
    }

    #[tokio::test]
    async fn a_server_without_http2_is_refused() {
        let (dir, grid) = (tempfile::tempdir().unwrap(), grid(b"http/1.1"));
        let file = dir.path().join("ca");
        std::fs::write(&file, &grid.authority).unwrap();
        let credentials = Credentials { tls_ca: Some(file), ..Credentials::default() };
        assert!(!meet(&Tls::new("localhost", &credentials).unwrap(), &grid).await);
        assert!(Tls::new("not a name", &credentials).is_err());
    }
}
