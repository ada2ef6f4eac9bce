//! Mutual TLS between parts: which Secrets hold the certificates, who makes them, and how servers are told of them.
//!
//! There are two pairs: servers show one, to their callers and where they call each other; who only calls (workers, the
//! grids of a tier) shows the other, with which nobody can pass for a server.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{CertManager, MutualTlsSpec, SecretKeyRef, SelfSigned};
use grid_operator_apply::Observed;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::certificates::{Authority, PAIR_KEYS, Pair, Purpose, text};
use crate::error::Result;
use crate::foreign::{CERTIFICATE, Foreign};
use crate::names::{MUTUAL_TLS_PORT, Names, Owner};
use crate::references::secret_text;
use crate::server_config::connections::secret_path;
use crate::server_config::yaml::Node;
use crate::trouble::Trouble;

/// The component of the Secrets.
const COMPONENT: &str = "parts";
/// The shortest time that a certificate is good for: a renewal has to reach every part.
const SHORTEST_SECONDS: u64 = 3_600;

/// A checked wish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MutualTls {
    /// Name of the Secret with what servers show.
    pub(crate) server: String,
    /// Name of the Secret with what those show who only call.
    pub(crate) client: String,
    source: Source,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// The operator, for so many seconds.
    Own(u64),
    /// The user.
    Given,
    /// cert-manager.
    CertManager(CertManager),
}

/// The Secrets that a wish names or that others make for it, which no label tells.
pub(crate) fn secret_names(owner: &str, spec: Option<&MutualTlsSpec>) -> Vec<String> {
    match spec {
        Some(MutualTlsSpec { secret_refs: Some(given), .. }) => {
            vec![given.server.name.clone(), given.client.name.clone()]
        }
        Some(MutualTlsSpec { cert_manager: Some(_), .. }) => vec![Names(owner).server_certificate()],
        Some(_) | None => vec![],
    }
}

/// The Secret with what those show who only call a resource that has this wish.
pub(crate) fn client_secret(owner: &str, spec: &MutualTlsSpec) -> String {
    let given = spec.secret_refs.as_ref().map(|given| given.client.name.clone());
    given.unwrap_or_else(|| Names(owner).client_certificate())
}

/// The Secret with what the servers show of a resource that has this wish.
pub(crate) fn server_secret(owner: &str, spec: &MutualTlsSpec) -> String {
    let given = spec.secret_refs.as_ref().map(|given| given.server.name.clone());
    given.unwrap_or_else(|| Names(owner).server_certificate())
}

/// Checks a wish; `missing` are the kinds that the cluster doesn't have.
///
/// # Errors
/// A Secret or a kind that is missing, or a time that is too short.
pub(crate) fn validate(
    owner: &str,
    spec: Option<&MutualTlsSpec>,
    secrets: &BTreeMap<String, Secret>,
    missing: &[grid_operator_apply::Kind],
) -> std::result::Result<Option<MutualTls>, Trouble> {
    let Some(spec) = spec else { return Ok(None) };
    let names = Names(owner);
    let (server, client) = (names.server_certificate(), names.client_certificate());
    if let Some(given) = &spec.secret_refs {
        for (name, field) in [(&given.server.name, "server"), (&given.client.name, "client")] {
            let field = format!("spec.mutualTls.secretRefs.{field}");
            for key in PAIR_KEYS {
                let reference = SecretKeyRef { name: name.clone(), key: key.to_owned() };
                secret_text(&reference, secrets, &field, "create it with tls.crt, tls.key and ca.crt")?;
            }
        }
        let (server, client) = (given.server.name.clone(), given.client.name.clone());
        return Ok(Some(MutualTls { server, client, source: Source::Given }));
    }
    if let Some(cert_manager) = &spec.cert_manager {
        if missing.contains(&CERTIFICATE) {
            let message = "spec.mutualTls.certManager needs the kind Certificate, which the cluster doesn't have: install cert-manager, or use selfSigned or secretRefs";
            return Err(Trouble::new("KindNotFound", message));
        }
        return Ok(Some(MutualTls { server, client, source: Source::CertManager(cert_manager.clone()) }));
    }
    let SelfSigned { validity } = spec.self_signed.clone().unwrap_or_default();
    match validity.seconds() {
        Some(seconds) if seconds >= SHORTEST_SECONDS => {
            Ok(Some(MutualTls { server, client, source: Source::Own(seconds) }))
        }
        _ => Err(Trouble::new(
            "ValidityTooShort",
            format!(
                "spec.mutualTls.selfSigned.validity is {}: give it an hour at least, so that a renewal reaches every part",
                validity.0
            ),
        )),
    }
}

/// What the operator makes itself.
#[derive(Clone, Debug)]
pub(crate) struct PartsPairs {
    authority: Authority,
    pub(crate) server: Pair,
    client: Pair,
}

/// A pair with the CA that both sides trust, in PEM: what the operator calls with.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The CA that servers are signed by.
    pub authority: String,
    /// The operator's certificate chain.
    pub chain: String,
    /// Its key.
    pub key: String,
}

// No key in logs.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// The one in a Secret.
    pub(crate) fn in_secret(secret: Option<&Secret>) -> Option<Self> {
        let text = |key| text(secret, key);
        Some(Self { authority: text("ca.crt")?, chain: text("tls.crt")?, key: text("tls.key")? })
    }
}

impl Pair {
    /// As one that the operator calls with.
    pub(crate) fn identity(&self) -> Identity {
        Identity { authority: self.authority.clone(), chain: self.chain.clone(), key: self.key.clone() }
    }
}

impl MutualTls {
    /// The pairs that the operator makes, kept or new, for the servers of these components.
    ///
    /// # Errors
    /// Where a certificate can't be made.
    pub(crate) fn pairs(
        &self,
        owner: &Owner,
        components: impl Iterator<Item = &'static str>,
        owned: &Observed,
        now: Timestamp,
    ) -> Result<Option<PartsPairs>> {
        let Source::Own(seconds) = self.source else { return Ok(None) };
        let secret = |name: &str| owned.typed::<Secret>(name);
        let authority = secret(&Names(&owner.name).parts_authority());
        let authority = Authority::of(authority.as_ref(), &owner.name, now)?;
        let pair = |name: &str, hosts: Vec<String>, is_server: bool| {
            let purpose = Purpose { hosts, seconds, is_server, is_client: true };
            authority.pair(secret(name).as_ref(), &purpose, now)
        };
        let server = pair(&self.server, hosts(owner, components), true)?;
        let client = pair(&self.client, vec![client_host(owner)], false)?;
        Ok(Some(PartsPairs { authority, server, client }))
    }

    /// The Certificates, where cert-manager makes them.
    pub(crate) fn certificates(
        &self,
        owner: &Owner,
        components: impl Iterator<Item = &'static str>,
    ) -> Vec<Foreign> {
        let Source::CertManager(CertManager { issuer_ref }) = &self.source else { return vec![] };
        let certificate = |name: &str, hosts: Vec<String>, usages: &[&str]| {
            let spec = json!({
                "secretName": name,
                "dnsNames": hosts,
                "usages": usages,
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "issuerRef": {"group": "cert-manager.io", "kind": issuer_ref.kind.as_str(), "name": issuer_ref.name},
            });
            Foreign::new(CERTIFICATE, &owner.meta(name, COMPONENT), &spec)
        };
        let both = ["digital signature", "server auth", "client auth"];
        vec![
            certificate(&self.server, hosts(owner, components), &both),
            certificate(&self.client, vec![client_host(owner)], &["digital signature", "client auth"]),
        ]
    }

    /// Keys of the Secret that a server has to read.
    pub(crate) fn server_files(&self) -> BTreeSet<(String, String)> {
        files(&self.server)
    }

    /// The address of parts, as a server listens on it.
    pub(crate) fn channel(&self) -> Node {
        let path = |key| Node::text(path(&self.server, key));
        let credentials = Node::Map(vec![
            ("tls-server-key", path("tls.key")),
            ("tls-server-cert", path("tls.crt")),
            ("tls-client-certs", path("ca.crt")),
        ]);
        let address = Node::text(format!("[::]:{MUTUAL_TLS_PORT}"));
        Node::tagged("!channel", vec![("address", address), ("credentials", credentials)])
    }
}

impl PartsPairs {
    /// The Secrets that hold them.
    pub(crate) fn secrets(&self, owner: &Owner, wish: &MutualTls) -> Vec<Secret> {
        let authority = Names(&owner.name).parts_authority();
        let mut secrets = vec![secret(owner, COMPONENT, authority, "Opaque", &self.authority.data())];
        for (name, pair) in [(&wish.server, &self.server), (&wish.client, &self.client)] {
            let mut kept = secret(owner, COMPONENT, name.clone(), "kubernetes.io/tls", &pair.data());
            kept.metadata.annotations = Some(pair.annotations());
            secrets.push(kept);
        }
        secrets
    }
}

/// Keys of a Secret with a pair.
pub(crate) fn files(secret: &str) -> BTreeSet<(String, String)> {
    PAIR_KEYS.iter().map(|key| (secret.to_owned(), (*key).to_owned())).collect()
}

/// What a server shows that calls another by the pair of a Secret.
pub(crate) fn client_credentials(secret: &str) -> Vec<(&'static str, Node)> {
    let path = |key| Node::text(path(secret, key));
    vec![
        ("tls-client-key", path("tls.key")),
        ("tls-client-cert", path("tls.crt")),
        ("tls-server-cert", path("ca.crt")),
    ]
}

/// A Secret of a resource.
pub(crate) fn secret(
    owner: &Owner,
    component: &str,
    name: String,
    type_: &str,
    data: &[(&'static str, &String)],
) -> Secret {
    Secret {
        metadata: owner.meta(name, component),
        type_: Some(type_.to_owned()),
        data: Some(data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect()),
        ..Secret::default()
    }
}

fn path(secret: &str, key: &str) -> String {
    secret_path(&SecretKeyRef { name: secret.to_owned(), key: key.to_owned() })
}

fn hosts(owner: &Owner, components: impl Iterator<Item = &'static str>) -> Vec<String> {
    let names = Names(&owner.name);
    components.flat_map(|component| names.hosts(component, &owner.namespace)).collect()
}

/// Whom the other pair names: nobody is called by that.
fn client_host(owner: &Owner) -> String {
    format!("client.{}.{}.svc", owner.name, owner.namespace)
}
