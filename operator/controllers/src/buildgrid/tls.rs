//! The secrets that the operator makes for a grid: tokens, and its own CA and certificate.
//!
//! They are made once and kept; a certificate is renewed when a third of its time is left, or its host changed.
//! What exists is told apart by annotations, so nothing here parses a certificate.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::observe::World;
use super::validate::{Grid, Tls};
use crate::context::Mint;
use crate::error::{Error, Result};
use crate::names::{HOST_ANNOTATION, NOT_AFTER_ANNOTATION};

/// How long the grid's own CA is good for.
const AUTHORITY_SECONDS: u64 = 10 * 365 * 86_400;

/// Secrets of a grid, kept or new.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    pub(crate) worker_token: String,
    pub(crate) admin_token: String,
    pub(crate) certificate: Option<Certificate>,
}

/// A certificate and the CA that signed it, in PEM.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Certificate {
    pub(crate) authority: String,
    pub(crate) authority_key: String,
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) host: String,
    pub(crate) not_after: String,
}

/// What exists, completed by what is missing.
///
/// # Errors
/// Where a certificate can't be made for the host.
pub(crate) fn secrets(grid: &Grid<'_>, world: &World, mint: &dyn Mint) -> Result<Secrets> {
    let tokens = world.owned.typed::<Secret>(&grid.names().credentials());
    let token = |key: &str| text(tokens.as_ref(), key).unwrap_or_else(|| mint.token());
    let certificate = match (&grid.tls, &grid.spec.ingress) {
        (Some(Tls::SelfSigned { seconds }), Some(ingress)) => {
            Some(certificate(grid, world, &ingress.host, *seconds, mint.now())?)
        }
        _ => None,
    };
    Ok(Secrets { worker_token: token("worker-token"), admin_token: token("admin-token"), certificate })
}

fn certificate(
    grid: &Grid<'_>,
    world: &World,
    host: &str,
    seconds: u64,
    now: Timestamp,
) -> Result<Certificate> {
    let authority = world.owned.typed::<Secret>(&grid.names().authority());
    let current = world.owned.typed::<Secret>(&grid.names().certificate());
    if let Some(kept) = kept(authority.as_ref(), current.as_ref(), host, seconds, now) {
        return Ok(kept);
    }
    let failed = |error: &dyn std::fmt::Display| Error::Certificate {
        host: host.to_owned(),
        message: error.to_string(),
    };
    let existing = text(authority.as_ref(), "ca.crt").zip(text(authority.as_ref(), "ca.key"));
    let (ca_pem, ca_key) = match existing {
        Some(pair) => pair,
        None => new_authority(&grid.owner.name, now).map_err(|e| failed(&e))?,
    };
    let (chain, key) = new_certificate(&ca_pem, &ca_key, host, seconds, now).map_err(|e| failed(&e))?;
    let not_after = now + Duration::from_secs(seconds);
    Ok(Certificate {
        authority: ca_pem,
        authority_key: ca_key,
        chain,
        key,
        host: host.to_owned(),
        not_after: not_after.to_string(),
    })
}

/// The certificate that exists, if it is for this host and good for long enough.
fn kept(
    authority: Option<&Secret>,
    current: Option<&Secret>,
    host: &str,
    seconds: u64,
    now: Timestamp,
) -> Option<Certificate> {
    let annotations = current?.annotations();
    let not_after = annotations.get(NOT_AFTER_ANNOTATION)?.clone();
    let left = not_after.parse::<Timestamp>().ok()?.duration_since(now);
    let is_fresh = left.as_secs() > i64::try_from(seconds / 3).ok()?;
    (annotations.get(HOST_ANNOTATION)? == host && is_fresh).then_some(())?;
    Some(Certificate {
        authority: text(authority, "ca.crt")?,
        authority_key: text(authority, "ca.key")?,
        chain: text(current, "tls.crt")?,
        key: text(current, "tls.key")?,
        host: host.to_owned(),
        not_after,
    })
}

fn text(secret: Option<&Secret>, key: &str) -> Option<String> {
    let bytes = secret?.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
}

fn new_authority(grid: &str, now: Timestamp) -> std::result::Result<(String, String), rcgen::Error> {
    let mut params = params(&format!("{grid} build grid CA"), AUTHORITY_SECONDS, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn new_certificate(
    ca: &str,
    ca_key: &str,
    host: &str,
    seconds: u64,
    now: Timestamp,
) -> std::result::Result<(String, String), rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let mut params = params(host, seconds, now);
    params.subject_alt_names = CertificateParams::new(vec![host.to_owned()])?.subject_alt_names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
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
    use super::*;

    #[test]
    fn a_certificate_is_for_its_host_and_signed_by_the_grids_own_ca() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let (ca, ca_key) = new_authority("demo", now).unwrap();
        let (chain, key) = new_certificate(&ca, &ca_key, "grid.example.org", 86_400, now).unwrap();
        KeyPair::from_pem(&key).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        let (_, ca_pem) = x509_parser::pem::parse_x509_pem(ca.as_bytes()).unwrap();
        let authority = ca_pem.parse_x509().unwrap();
        assert!(authority.is_ca() && !leaf.is_ca());
        assert_eq!(leaf.issuer(), authority.subject());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(format!("{:?}", names.value).contains("grid.example.org"));
        let valid = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(valid, 86_400 + 300);
    }
}
