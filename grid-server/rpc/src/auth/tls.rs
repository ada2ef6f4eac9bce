//! Callers told by the certificate of their connection.
//!
//! The TLS layer has checked that the certificate is trusted; here its names become a subject: the first DNS name,
//! URI or e-mail address among the alternative names, else the common name.

use async_trait::async_trait;
use http::request::Parts;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authenticator, Identity};
use crate::RpcError;

/// Takes the subject from the client's certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsAuthenticator;

#[async_trait]
impl Authenticator for TlsAuthenticator {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Identity>, RpcError> {
        let info = request.extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        let Some(certificates) = info.and_then(TlsConnectInfo::peer_certs) else { return Ok(None) };
        let Some(certificate) = certificates.first() else { return Ok(None) };
        let subject = subject(certificate).ok_or_else(|| {
            RpcError::Unauthenticated(
                "the client's certificate names nobody: it has no alternative or common name".into(),
            )
        })?;
        Ok(Some(Identity { actor: subject.clone(), subject, workflow: String::new() }))
    }
}

/// The name in a DER certificate.
fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let named = alternative.and_then(|extension| {
        extension.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        })
    });
    let common = || certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned);
    named.or_else(common).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str], common: &str) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn alternative_names_come_before_the_common_name() {
        assert_eq!(subject(&certificate(&["ci.example"], "old")).unwrap(), "ci.example");
        assert_eq!(subject(&certificate(&[], "alice")).unwrap(), "alice");
        assert_eq!(subject(b"no certificate"), None);
    }
}
