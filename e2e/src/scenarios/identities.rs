//! Builds by clients that say who they are: by certificates, and by tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grid_proto::reapi::GetCapabilitiesRequest;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status};

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use crate::bazel::Workspace;
use crate::clients::Clients;
use crate::issuer::{AUDIENCE, Issuer, SigningKey};
use crate::project::COMPILE_ACTIONS;
use crate::remote::{Remote, was_cut};
use crate::{environment, grid, pods, process, wait};

/// Where pods find what listens on this machine.
const MACHINE: &str = "172.30.0.253";
/// The grid's port for those who show certificates.
const MUTUAL_TLS_PORT: u16 = 50052;
/// The labels of the grid's servers.
const SERVERS: &str = "app.kubernetes.io/instance=demo,app.kubernetes.io/component=server";
/// What a server logs when it has read its files again.
const READ_AGAIN: &str = "TLS files were read again";
/// For how many seconds it may take until a new Secret has reached a pod and a connection.
const PROPAGATION: u64 = 300;

/// Bazel builds by mutual TLS, while the server's certificate is replaced, and is refused without a certificate. Then the
/// grid asks for tokens: Bazel builds through the ingress with one, while the issuer publishes another key and then goes
/// away, and is refused without one and with a stranger's.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn identities() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "identities-test", &[], "mutual-tls.yaml")?;
    by_certificate(&test)?;
    by_token(&test)?;
    test.delete()
}

fn by_certificate(test: &TestGrid<'_>) -> Result<()> {
    let folder = tempfile::tempdir_in(environment::cache()?)?;
    let pair = client_pair(test, folder.path())?;
    let workspace_dir = folder.path().join("bazel");
    std::fs::create_dir_all(&workspace_dir)?;
    let mut workspace = Workspace::new(&workspace_dir)?;
    let clients = straight_to_the_server(test, &workspace, folder.path(), &pair)?;
    let host = server_host(test);
    let server = [
        format!("--remote_executor=grpcs://{host}:{MUTUAL_TLS_PORT}"),
        "--tls_certificate=/pki/ca.crt".to_owned(),
    ];
    let identity =
        ["--tls_client_certificate=/pki/tls.crt", "--tls_client_key=/pki/tls.key"].map(str::to_owned);
    let impatient = ["--remote_retries=0".to_owned()];
    let refused = Workspace::refused(&clients, &[grid::bazelrc()], &[&server[..], &impatient].concat())?;
    println!("    without a certificate: {}", refused.text.lines().last().unwrap_or_default());
    workspace.clean()?;
    let flags = [&server[..], &identity].concat();
    builds::meanwhile(&mut workspace, &clients, &flags, |_| {
        let kubectl =
            |words: &[&str]| process::run(test.kube.kubectl(words).args(["--namespace", test.namespace]));
        kubectl(&["delete", "secret/demo-server-tls"])?;
        test.kube.wait(test.namespace, "secret/demo-server-tls", "create", 60)?;
        read_again(test)
    })
}

/// Waits until the server shows its new certificate to those who come.
fn read_again(test: &TestGrid<'_>) -> Result<()> {
    let logs = ["logs", "--namespace", test.namespace, "-l", SERVERS, "--tail=-1"];
    wait::until("the server reads its new certificate", PROPAGATION, || {
        Ok(process::output(&mut test.kube.kubectl(logs))?.contains(READ_AGAIN))
    })
}

fn server_host(test: &TestGrid<'_>) -> String {
    format!("demo-server-pods.{}.svc", test.namespace)
}

/// A place whose clients reach the server's pod by its name in the cluster, with the pair of clients at `/pki`.
fn straight_to_the_server<'a>(
    test: &TestGrid<'a>,
    workspace: &Workspace,
    dir: &Path,
    pair: &Path,
) -> Result<Clients<'a>> {
    let pod = pods::names(&test.kube, test.namespace, SERVERS)?;
    let pod =
        test.kube.get(test.namespace, &format!("pod/{}", pod.first().context("the grid has no server")?))?;
    let address = pod["status"]["podIP"].as_str().context("the server's pod has no address")?;
    let files = grid::client_files(&test.kube, test.namespace, "demo", dir)?;
    let place = workspace.clients(test.cluster)?.bind(pair, "/pki");
    grid::clients(place, &files, &server_host(test), address)
}

/// The pair of those who call the grid's parts, and their CA, as files.
fn client_pair(test: &TestGrid<'_>, dir: &Path) -> Result<PathBuf> {
    let folder = dir.join("pki");
    std::fs::create_dir_all(&folder)?;
    let secret = test.kube.get(test.namespace, "secret/demo-client-tls")?;
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        let content = secret["data"][file].as_str().with_context(|| format!("the Secret has no {file}"))?;
        std::fs::write(folder.join(file), STANDARD.decode(content)?)?;
    }
    Ok(folder)
}

fn by_token(test: &TestGrid<'_>) -> Result<()> {
    let (old, new, stranger) = (SigningKey::new("old")?, SigningKey::new("new")?, SigningKey::new("old")?);
    let issuer = Issuer::start(MACHINE, &[&old])?;
    ask_for_tokens(test, issuer.url())?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let with = |key: &SigningKey, name: &str| {
        anyhow::Ok(vec![format!("--remote_header=authorization=Bearer {}", key.token(name)?)])
    };
    for (what, flags) in [("without a token", vec![]), ("with a stranger's token", with(&stranger, "eve")?)] {
        let refused = Workspace::refused(&clients, &[grid::bazelrc()], &flags)?;
        refused.expect("UNAUTHENTICATED")?;
        println!("    {what}: refused");
        workspace.clean()?;
    }
    let remote = reached(test)?;
    builds::meanwhile(&mut workspace, &clients, &with(&old, "alice")?, |_| {
        issuer.publish(&[&old, &new]);
        // Who comes with a key that is not known yet makes the server look.
        accepted(&remote, &new.token("bob")?)?;
        drop(issuer);
        accepted(&remote, &new.token("carol")?)?;
        accepted(&remote, &old.token("dora")?)
    })?;
    workspace.clean()?;
    let flags = [vec![DOWNLOAD_ALL.to_owned()], with(&new, "erin")?].concat();
    let summary = workspace.build(&clients, &[grid::bazelrc()], &flags)?;
    println!("    with the new key, without its issuer: {:?}", summary.processes);
    summary.expect_all_hits(COMPILE_ACTIONS)
}

/// Has the grid ask for tokens whose keys are at `url`, and waits until its servers do.
fn ask_for_tokens(test: &TestGrid<'_>, url: &str) -> Result<()> {
    let patch = serde_json::json!({"spec": {"authorization": {
        "jwt": {"keySetUrls": [url], "algorithm": "es256", "audiences": [AUDIENCE]},
    }}});
    let before = pods::names(&test.kube, test.namespace, SERVERS)?;
    let patch = format!("--patch={patch}");
    let words = ["patch", "--namespace", test.namespace, "grid/demo", "--type=merge", &patch];
    process::run(&mut test.kube.kubectl(words))?;
    for pod in before {
        test.kube.wait(test.namespace, &format!("pod/{pod}"), "delete", 180)?;
    }
    for object in test.names("grid,pool")? {
        test.kube.wait(test.namespace, &object, "condition=Ready", 180)?;
    }
    Ok(())
}

/// The ingress, as a client of ours reaches it.
fn reached(test: &TestGrid<'_>) -> Result<Remote> {
    let files = test.kube.config_map(test.namespace, "demo-clients")?;
    let authority = files.get("ca.crt").context("the files for clients have no ca.crt")?;
    let host = format!("{}.example.com", test.namespace);
    Remote::connect(&grid::ingress_address(test.cluster)?, &host, authority)
}

/// Waits until a token is accepted: a server looks for new keys once in a while only.
fn accepted(remote: &Remote, token: &str) -> Result<()> {
    let header: AsciiMetadataValue = format!("Bearer {token}").parse()?;
    let ask = async || {
        let mut request = Request::new(GetCapabilitiesRequest::default());
        request.metadata_mut().insert("authorization", header.clone());
        match CapabilitiesClient::new(remote.channel.clone()).get_capabilities(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::Unauthenticated || was_cut(&status) => Ok(false),
            Err(status) => Err::<bool, Status>(status),
        }
    };
    remote.until("a token is accepted", ask, |accepted| *accepted).map(drop)
}
