//! Which servers are trusted, and how the client shows who it is.
//!
//! A certificate that `--server-cert` names is trusted as the server's own too, byte for byte: OpenSSL's
//! usual one-line recipe makes self-signed CA certificates without alternative names, which no path
//! validation accepts for a server, yet whoever holds the key of a pinned certificate is who was meant.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::args::connection::Connection;
use crate::exit::Failure;

/// Files that say whom to trust and who the client is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// Certificates to trust; the system's when `None`.
    pub(crate) trusted: Option<PathBuf>,
    /// The client's certificate chain.
    pub(crate) certificate: Option<PathBuf>,
    /// The private key to it.
    pub(crate) key: Option<PathBuf>,
}

impl Identity {
    /// The files that `connection` names, or else those of the configuration folder.
    pub(crate) fn of(connection: &Connection) -> Self {
        let given = Self {
            trusted: connection.server_cert.clone(),
            certificate: connection.client_cert.clone(),
            key: connection.client_key.clone(),
        };
        given.or_default()
    }

    /// Fills what is not given from the configuration folder.
    pub(crate) fn or_default(self) -> Self {
        self.or_from(config_folder().as_deref())
    }

    /// Fills what is not given from `folder`: `server.crt`, and the pair `client.crt` and `client.key`.
    fn or_from(mut self, folder: Option<&Path>) -> Self {
        let found = |name: &str| folder.map(|folder| folder.join(name)).filter(|path| path.is_file());
        self.trusted = self.trusted.or_else(|| found("server.crt"));
        if self.certificate.is_none() && self.key.is_none() {
            let pair = found("client.crt").zip(found("client.key"));
            (self.certificate, self.key) = pair.unzip();
        }
        self
    }
}

/// `$XDG_CONFIG_HOME/buildgrid`, or `~/.config/buildgrid`.
fn config_folder() -> Option<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let base = home.or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(base.join("buildgrid"))
}

/// The TLS settings for `identity`.
pub(crate) fn client_config(identity: &Identity) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(verifier(identity.trusted.as_deref(), &provider)?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Usage(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&identity.certificate, &identity.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = read_certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_failure(key, &error))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                Failure::Usage(format!("{certificate} and {key} are no pair: {error}"))
            })?
        }
        _ => return Err(Failure::Usage("--client-key and --client-cert need each other".to_owned())),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = fs::read(path).map_err(|error| Failure::path("read", path, error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Failure::Usage(format!("{}: holds no PEM certificate", path.display()))),
        Err(error) => Err(pem_failure(path, &error)),
    }
}

/// Never shows what the file holds.
fn pem_failure(path: &Path, error: &pem::Error) -> Failure {
    match error {
        pem::Error::Io(error) => Failure::path("read", path, std::io::Error::from(error.kind())),
        _ => Failure::Usage(format!("{}: is not in PEM form, or holds something else", path.display())),
    }
}

fn verifier(trusted: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Verifier, Failure> {
    let pinned = trusted.map(read_certificates).transpose()?.unwrap_or_default();
    let mut roots = RootCertStore::empty();
    let candidates =
        if trusted.is_some() { pinned.clone() } else { rustls_native_certs::load_native_certs().certs };
    let (added, _) = roots.add_parsable_certificates(candidates);
    if added == 0 {
        let source = trusted.map_or_else(|| "the system".to_owned(), |path| path.display().to_string());
        let text = format!("{source} has no usable certificate to trust; pass --server-cert");
        return Err(Failure::Usage(text));
    }
    let paths = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(Verifier { pinned, paths })
}

/// Trusts pinned certificates as they are, and others by their path to a trusted one.
#[derive(Debug)]
struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    paths: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            // That the server holds the key is shown by its signature, which is still checked.
            return Ok(ServerCertVerified::assertion());
        }
        self.paths.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.paths.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.paths.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.paths.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_folder_fills_what_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("client.crt"), "").unwrap();
        let half = Identity::default().or_from(Some(folder.path()));
        assert!(half.certificate.is_none(), "a certificate without its key is no identity");
        fs::write(folder.path().join("client.key"), "").unwrap();
        fs::write(folder.path().join("server.crt"), "").unwrap();
        let whole = Identity::default().or_from(Some(folder.path()));
        assert!(whole.certificate.is_some() && whole.key.is_some() && whole.trusted.is_some());
        let given = Identity { key: Some("mine.key".into()), ..Default::default() };
        let given = given.or_from(Some(folder.path()));
        assert!(given.certificate.is_none(), "a given key is not joined with a found certificate");
    }

    #[test]
    fn a_key_without_its_certificate_is_refused() {
        let identity = Identity { key: Some("k".into()), ..Default::default() };
        let trusting = tempfile::NamedTempFile::new().unwrap();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(trusting.path(), certificate.cert.pem()).unwrap();
        let identity = Identity { trusted: Some(trusting.path().into()), ..identity };
        let error = client_config(&identity).unwrap_err();
        assert!(error.to_string().contains("need each other"), "{error}");
    }
}
