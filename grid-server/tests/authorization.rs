//! Who may call, told by the certificates of connections, as a server's configuration says it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::io::Write as _;

use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    ActionResult, FindMissingBlobsRequest, GetCapabilitiesRequest, UpdateActionResultRequest,
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use support::{Certificates, Server, digest};
use tonic::Code;
use tonic::transport::Channel;

/// Two instances, of which `main` executes.
fn grid(authorization: &str) -> String {
    format!(
        "
authorization: {authorization}
storages: [!lru-storage &cas {{size: 10M}}]
caches: [!lru-action-cache &results {{storage: *cas, max-cached-refs: 100}}]
schedulers: [!sql-scheduler &queue {{storage: *cas, action-cache: *results}}]
instances:
  - name: main
    services: [!cas {{storage: *cas}}, !bytestream {{storage: *cas}}, !action-cache {{cache: *results}}, !execution {{scheduler: *queue}}]
  - name: cache
    services: [!cas {{storage: *cas}}, !bytestream {{storage: *cas}}, !action-cache {{cache: *results}}]
"
    )
}

async fn update(channel: &Channel, instance: &str) -> Code {
    let request = UpdateActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(digest(b"an action")),
        action_result: Some(ActionResult { exit_code: 0, ..ActionResult::default() }),
        ..UpdateActionResultRequest::default()
    };
    let answer = ActionCacheClient::new(channel.clone()).update_action_result(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn find_missing(channel: &Channel, instance: &str) -> Code {
    let request =
        FindMissingBlobsRequest { instance_name: instance.to_owned(), ..FindMissingBlobsRequest::default() };
    let answer = ContentAddressableStorageClient::new(channel.clone()).find_missing_blobs(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Whether the server says that this caller may update results.
async fn may_update(channel: &Channel, instance: &str) -> bool {
    let request = GetCapabilitiesRequest { instance_name: instance.to_owned() };
    let answer = CapabilitiesClient::new(channel.clone()).get_capabilities(request).await.unwrap();
    let cache = answer.into_inner().cache_capabilities.unwrap();
    cache.action_cache_update_capabilities.unwrap().update_enabled
}

#[tokio::test]
async fn certificates_name_who_may_record_results() {
    let certificates = Certificates::make();
    for (writers, code) in [("[somebody]", Code::PermissionDenied), ("[localhost]", Code::Ok)] {
        let authorization = format!("{{method: none, cache-writers: {writers}}}");
        let server = Server::start_tls(&grid(&authorization), &certificates).await;
        let channel = server.tls_channel(&certificates, true).await.unwrap();
        assert_eq!(update(&channel, "main").await, code, "{writers}");
        assert_eq!(may_update(&channel, "main").await, code == Code::Ok, "capabilities tell each caller's");
        assert_eq!(update(&channel, "cache").await, Code::Ok, "no scheduler records results there");
        assert!(may_update(&channel, "cache").await);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_acl_grants_by_the_name_in_a_certificate() {
    let certificates = Certificates::make();
    let acl = certificates.folder.path().join("acl.yml");
    std::fs::write(&acl, "main: {allow: [{subject: localhost}]}\ncache: {allow: [{subject: ci}]}\n").unwrap();
    let authorization = format!("{{method: none, acl-config: {}}}", acl.display());
    let server = Server::start_tls(&grid(&authorization), &certificates).await;
    let channel = server.tls_channel(&certificates, true).await.unwrap();
    assert_eq!(find_missing(&channel, "main").await, Code::Ok);
    assert_eq!(find_missing(&channel, "cache").await, Code::PermissionDenied);
    server.stop().await;
}

/// What `openssl req -x509 -subj /CN=client` makes: a self-signed authority's certificate without alternative names.
#[tokio::test]
async fn a_self_signed_certificate_that_was_given_is_taken_and_names_its_client() {
    let certificates = Certificates::make();
    let folder = certificates.folder.path();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "client");
    let key = KeyPair::generate().unwrap();
    let pem = parameters.self_signed(&key).unwrap().pem();
    std::fs::write(folder.join("client.crt"), &pem).unwrap();
    std::fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();

    let authorization = "{method: none, cache-writers: [client]}";
    let stranger = Server::start_tls(&grid(authorization), &certificates).await;
    let refused = match stranger.tls_channel(&certificates, true).await {
        Ok(channel) => find_missing(&channel, "main").await != Code::Ok,
        Err(_) => true,
    };
    assert!(refused, "it was not given, and nobody that was has signed it");
    stranger.stop().await;

    let mut given = std::fs::File::options().append(true).open(folder.join("ca.crt")).unwrap();
    given.write_all(pem.as_bytes()).unwrap();
    let server = Server::start_tls(&grid(authorization), &certificates).await;
    let channel = server.tls_channel(&certificates, true).await.unwrap();
    assert_eq!(update(&channel, "main").await, Code::Ok);
    server.stop().await;
}
