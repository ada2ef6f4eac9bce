//! Which client certificates are trusted (`tls-client-certs`).
//!
//! Those that one of the given certificates has signed, as everywhere; and the given ones themselves, byte for byte.
//! OpenSSL's usual one-line recipe makes self-signed CA certificates, which no path validation takes for a client, and yet
//! whoever holds the key of a certificate that was put into the file is who was meant.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Trusts given certificates as they are, and others by their path to one of them.
#[derive(Debug)]
pub(super) struct Pinned {
    given: Vec<CertificateDer<'static>>,
    paths: Arc<dyn ClientCertVerifier>,
}

impl Pinned {
    /// Trusts `given`, or says what is wrong with one of them.
    pub(super) fn new(given: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &given {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        let paths = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        Ok(Self { given, paths: paths.map_err(|error| error.to_string())? })
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.paths.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.given.iter().any(|given| given == end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        self.paths.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.paths.supported_verify_schemes()
    }
}
