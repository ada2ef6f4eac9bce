//! The certificates of parts do: a worker and a server of the grid accept each other by what the operator made, at the very
//! address that the worker is given; nobody else is let in; and what is renewed reaches pods without their replacement.

use std::sync::Arc;
use std::time::Duration;

use grid_operator_apply::Leadership;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig, ServerConnection,
    WantsVerifier,
};
use serde_json::{Value, json};

use crate::model::{Model, context_at, noon};
use crate::passes::{converge, from, new_world, pass_of, to};

/// The world of `convergence` with mutual TLS.
async fn secured() -> Model {
    let model = new_world();
    for (plural, name) in [("buildgrids", "demo"), ("casstorages", "tier")] {
        model.edit(plural, name, |object| {
            object["spec"]["mutualTls"] = json!({"selfSigned": {"validity": "3d"}});
        });
    }
    converge(&model).await;
    model
}

/// The time at which two meet.
#[derive(Clone, Copy, Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(Timestamp::UNIX_EPOCH).unsigned_abs()))
    }
}

fn text(model: &Model, secret: &str, key: &str) -> String {
    let object = model.object("secrets", secret).unwrap_or_else(|| panic!("no Secret {secret}"));
    let bytes: ByteString = from(object["data"][key].clone());
    String::from_utf8(bytes.0).unwrap()
}

/// A pair and the CA of a Secret.
fn parts(
    model: &Model,
    secret: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Arc<RootCertStore>) {
    let pem = |key| text(model, secret, key).into_bytes();
    let chain = CertificateDer::pem_slice_iter(&pem("tls.crt")).map(Result::unwrap).collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem("ca.crt")).unwrap()).unwrap();
    (chain, PrivateKeyDer::from_pem_slice(&pem("tls.key")).unwrap(), Arc::new(roots))
}

fn versions<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_safe_default_protocol_versions().unwrap()
}

/// Whether one with the pair of `client` and a server with that of `server` come to an understanding under `host`.
fn meet(model: &Model, now: Timestamp, client: &str, server: &str, host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key, roots) = parts(model, server);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
    let config = versions(ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(At(now))));
    let config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();

    let (chain, key, roots) = parts(model, client);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
    let config = versions(ClientConfig::builder_with_details(provider, Arc::new(At(now))));
    let config = config.with_webpki_verifier(verifier).with_client_auth_cert(chain, key).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), host).unwrap();

    for _ in 0..8 {
        let mut bytes = vec![];
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = vec![];
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

/// The host of a URL among a container's arguments.
fn host(arguments: &Value, flag: &str) -> String {
    let words: Vec<String> = from(arguments.clone());
    let at = words.iter().position(|word| word == flag).unwrap();
    let url = words[at + 1].strip_prefix("https://").expect("not secure").to_owned();
    url.strip_suffix(":50052").unwrap().to_owned()
}

#[tokio::test]
async fn parts_know_each_other_and_nobody_else() {
    let model = secured().await;
    let pool = model.object("deployments", "gcc-worker").unwrap();
    let arguments = &pool["spec"]["template"]["spec"]["containers"][0]["args"];
    for flag in ["--bots", "--cas"] {
        meet(&model, noon(), "demo-client-tls", "demo-server-tls", &host(arguments, flag)).unwrap();
    }
    meet(&model, noon(), "demo-server-tls", "demo-server-tls", "demo-execution-pods.default.svc").unwrap();
    for ordinal in 0..2 {
        let shard = format!("tier-server-{ordinal}.tier-server-pods.default.svc");
        meet(&model, noon(), "tier-client-tls", "tier-server-tls", &shard).unwrap();
    }
    let address = "demo-bots-pods.default.svc";
    assert!(meet(&model, noon(), "tier-client-tls", "demo-server-tls", address).is_err(), "of another CA");
    assert!(
        meet(&model, noon(), "demo-server-tls", "demo-client-tls", address).is_err(),
        "a worker is no server"
    );
    assert!(meet(&model, noon(), "demo-client-tls", "demo-server-tls", "elsewhere.example").is_err());
}

#[tokio::test]
async fn a_renewal_replaces_no_pod() {
    let model = secured().await;
    let secrets = ["demo-server-tls", "demo-client-tls", "tier-server-tls", "tier-client-tls"];
    let before = secrets.map(|secret| text(&model, secret, "tls.crt"));
    let templates = || {
        let made = model.objects().into_values().filter(|o| o["spec"]["template"].is_object());
        made.map(|object| object["spec"]["template"].clone()).collect::<Vec<_>>()
    };
    let pods = templates();
    let later = noon() + Duration::from_secs(49 * 3_600);
    let context = context_at(&model, later, Leadership::sole());
    pass_of(&model, &context).await;
    for (secret, old) in secrets.into_iter().zip(before) {
        assert_ne!(text(&model, secret, "tls.crt"), old, "{secret} has less than a third of its time left");
    }
    assert_eq!(to(&templates()), to(&pods));
    meet(&model, later, "demo-client-tls", "demo-server-tls", "demo-bots-pods.default.svc").unwrap();
}
