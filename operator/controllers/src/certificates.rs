//! CAs and certificates that the operator makes: for a way in, and for mutual TLS between parts.
//!
//! They are made once and kept; a certificate is renewed when a third of its time is left, its names changed, or its CA is
//! another. What exists is told apart by annotations, so nothing here parses a certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::error::{Error, Result};
use crate::names::{HOST_ANNOTATION, NOT_AFTER_ANNOTATION};

/// How long a CA is good for.
const AUTHORITY_SECONDS: u64 = 10 * 365 * 86_400;

/// The keys of a Secret with a pair and the CA that signed it.
pub(crate) const PAIR_KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A CA, in PEM.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Authority {
    certificate: String,
    key: String,
}

/// A certificate and the CA that signed it, in PEM.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) authority: String,
    pub(crate) chain: String,
    pub(crate) key: String,
    hosts: String,
    not_after: String,
}

/// What a certificate is for.
pub(crate) struct Purpose {
    /// Host names; the first one is also the common name.
    pub(crate) hosts: Vec<String>,
    /// How long it is good for.
    pub(crate) seconds: u64,
    pub(crate) is_server: bool,
    pub(crate) is_client: bool,
}

impl Authority {
    /// The CA in a Secret, or a new one for `owner`.
    ///
    /// # Errors
    /// Where none can be made.
    pub(crate) fn of(existing: Option<&Secret>, owner: &str, now: Timestamp) -> Result<Self> {
        let text = |key| text(existing, key);
        match text("ca.crt").zip(text("ca.key")) {
            Some((certificate, key)) => Ok(Self { certificate, key }),
            None => Self::new(owner, now).map_err(|error| failed(owner, &error)),
        }
    }

    fn new(owner: &str, now: Timestamp) -> std::result::Result<Self, rcgen::Error> {
        let mut params = params(&format!("{owner} build grid CA"), AUTHORITY_SECONDS, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// What a Secret with it holds.
    pub(crate) fn data(&self) -> [(&'static str, &String); 2] {
        [("ca.crt", &self.certificate), ("ca.key", &self.key)]
    }

    /// The pair in a Secret, where it still does; else a new one.
    ///
    /// # Errors
    /// Where none can be made for these names.
    pub(crate) fn pair(&self, current: Option<&Secret>, purpose: &Purpose, now: Timestamp) -> Result<Pair> {
        if let Some(kept) = self.kept(current, purpose, now) {
            return Ok(kept);
        }
        let name = purpose.name();
        let (chain, key) = self.sign(purpose, now).map_err(|error| failed(name, &error))?;
        let not_after = (now + Duration::from_secs(purpose.seconds)).to_string();
        Ok(Pair {
            authority: self.certificate.clone(),
            chain,
            key,
            hosts: purpose.hosts.join(","),
            not_after,
        })
    }

    fn kept(&self, current: Option<&Secret>, purpose: &Purpose, now: Timestamp) -> Option<Pair> {
        let annotations = current?.annotations();
        let not_after = annotations.get(NOT_AFTER_ANNOTATION)?.clone();
        let left = not_after.parse::<Timestamp>().ok()?.duration_since(now);
        let is_fresh = left.as_secs() > i64::try_from(purpose.seconds / 3).ok()?;
        let hosts = purpose.hosts.join(",");
        let is_ours = text(current, "ca.crt").as_ref() == Some(&self.certificate);
        (annotations.get(HOST_ANNOTATION)? == &hosts && is_fresh && is_ours).then_some(())?;
        let authority = self.certificate.clone();
        Some(Pair {
            authority,
            chain: text(current, "tls.crt")?,
            key: text(current, "tls.key")?,
            hosts,
            not_after,
        })
    }

    fn sign(&self, purpose: &Purpose, now: Timestamp) -> std::result::Result<(String, String), rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let mut params = params(purpose.name(), purpose.seconds, now);
        params.subject_alt_names = CertificateParams::new(purpose.hosts.clone())?.subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let server = purpose.is_server.then_some(ExtendedKeyUsagePurpose::ServerAuth);
        let client = purpose.is_client.then_some(ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages = server.into_iter().chain(client).collect();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

impl Purpose {
    fn name(&self) -> &str {
        self.hosts.first().map_or("", String::as_str)
    }
}

impl Pair {
    /// What a Secret with it holds.
    pub(crate) fn data(&self) -> [(&'static str, &String); 3] {
        [("tls.crt", &self.chain), ("tls.key", &self.key), ("ca.crt", &self.authority)]
    }

    /// What its Secret says of it.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (HOST_ANNOTATION.to_owned(), self.hosts.clone()),
            (NOT_AFTER_ANNOTATION.to_owned(), self.not_after.clone()),
        ])
    }
}

/// A key of a Secret as text; nothing where it is empty or missing.
pub(crate) fn text(secret: Option<&Secret>, key: &str) -> Option<String> {
    let bytes = secret?.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
}

fn failed(host: &str, error: &rcgen::Error) -> Error {
    Error::Certificate { host: host.to_owned(), message: error.to_string() }
}

fn params(common_name: &str, seconds: u64, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // A common name has at most 64 characters; the names that count are the alternative ones.
    name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    params.distinguished_name = name;
    // Clocks of clients may be a little behind.
    let now = std::time::SystemTime::from(now);
    params.not_before = (now - Duration::from_secs(300)).into();
    params.not_after = (now + Duration::from_secs(seconds)).into();
    params
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn purpose(host: &str) -> Purpose {
        Purpose { hosts: vec![host.to_owned()], seconds: 86_400, is_server: true, is_client: false }
    }

    fn stored(pair: &Pair) -> Secret {
        let data = pair.data().map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())));
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        secret.metadata.annotations = Some(pair.annotations());
        secret
    }

    #[test]
    fn a_certificate_is_for_its_host_and_signed_by_the_grids_own_ca() {
        let authority = Authority::new("demo", now()).unwrap();
        let pair = authority.pair(None, &purpose("grid.example.org"), now()).unwrap();
        KeyPair::from_pem(&pair.key).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pair.chain.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        let (_, ca_pem) = x509_parser::pem::parse_x509_pem(pair.authority.as_bytes()).unwrap();
        let authority = ca_pem.parse_x509().unwrap();
        assert!(authority.is_ca() && !leaf.is_ca());
        assert_eq!(leaf.issuer(), authority.subject());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(format!("{:?}", names.value).contains("grid.example.org"));
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        let valid = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(valid, 86_400 + 300);
    }

    #[test]
    fn a_pair_is_kept_until_a_third_of_its_time_is_left_or_its_names_or_ca_are_others() {
        let authority = Authority::new("demo", now()).unwrap();
        let first = authority.pair(None, &purpose("a"), now()).unwrap();
        let secret = stored(&first);
        let after = |hours: u64| now() + Duration::from_secs(hours * 3_600);
        let again = |authority: &Authority, host, at| {
            authority.pair(Some(&secret), &purpose(host), at).unwrap() == first
        };
        assert!(again(&authority, "a", after(15)));
        assert!(!again(&authority, "a", after(16)), "a third is left");
        assert!(!again(&authority, "b", now()));
        assert!(!again(&Authority::new("demo", now()).unwrap(), "a", now()), "another CA");
    }
}
