//! Which client certificates are trusted (`tls-client-certs`).
//!
//! Those that one of the given certificates has signed, as everywhere; and the given ones themselves, byte for byte.
//! OpenSSL's usual one-line recipe makes self-signed CA certificates, which no path validation takes for a client, and yet
//! whoever holds the key of a certificate that was put into the file is who was meant, for as long as it is valid.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

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
            return in_time(end_entity, now).map(|()| ClientCertVerified::assertion());
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

/// Whether a certificate is valid yet and still.
fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < read.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > read.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_given_certificate_is_taken_while_it_is_valid() {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2021, 1, 1);
        let given = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pinned = Pinned::new(vec![given.clone()]).unwrap();
        let at = |(year, month): (i32, u8)| {
            let seconds = date_time_ymd(year, month, 1).unix_timestamp();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap()));
            pinned.verify_client_cert(&given, &[], now)
        };
        assert!(at((2020, 6)).is_ok());
        let problem = |date| at(date).unwrap_err();
        assert_eq!(problem((2019, 12)), Error::InvalidCertificate(CertificateError::NotValidYet));
        assert_eq!(problem((2021, 2)), Error::InvalidCertificate(CertificateError::Expired));
    }
}
