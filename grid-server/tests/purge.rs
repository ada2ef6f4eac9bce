//! `purge` beside a server: what a worker executed is taken back, and runs again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::path::Path;
use std::time::Duration;

use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{Digest, ExecuteRequest, GetActionResultRequest};
use grid_scheduler_sql::testing;
use support::{Calls, Server};
use tokio::process::Command;

fn config(database: &str, cache: &str) -> String {
    format!(
        "
connections: [!sql-connection &db {{connection-string: '{database}', automigrate: yes}}]
storages: [!disk-storage &cas {{path: cas}}]
caches: [{cache}]
schedulers: [!sql-scheduler &queue {{storage: *cas, action-cache: *results, sql: *db}}]
instances:
  - name: ''
    services: [!cas {{storage: *cas}}, !action-cache {{cache: *results}}, !execution {{scheduler: *queue}}]
"
    )
}

const SHARED: &str = "!sql-action-cache &results {storage: *cas, sql: *db}";
const IN_MEMORY: &str = "!lru-action-cache &results {storage: *cas, max-cached-refs: 10}";

/// Has an action run by the bot of the tests; gives its digest.
async fn execute(channel: &Calls) -> Digest {
    let (action, _) = support::store_action(channel.clone(), &["true"]).await;
    let request = ExecuteRequest { action_digest: Some(action.clone()), ..ExecuteRequest::default() };
    let mut stream = ExecutionClient::new(channel.clone()).execute(request).await.unwrap().into_inner();
    support::run_one_lease(channel.clone(), 0).await;
    while stream.message().await.unwrap().is_some() {}
    action
}

async fn is_cached(channel: &Calls, action: &Digest) -> bool {
    let request =
        GetActionResultRequest { action_digest: Some(action.clone()), ..GetActionResultRequest::default() };
    ActionCacheClient::new(channel.clone()).get_action_result(request).await.is_ok()
}

/// What `purge` says, and whether it succeeds.
async fn purge(folder: &Path, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command.args(["purge", "server.yml", "--since", "1H"]).args(more).current_dir(folder);
    command.env("XDG_STATE_HOME", folder).env_remove("RUST_LOG");
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test]
async fn what_a_worker_executed_is_taken_back() {
    let url = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
    let server = Server::start(&config(&url, SHARED)).await;
    let channel = server.channel().await;
    let action = execute(&channel).await;
    assert!(is_cached(&channel, &action).await);

    let (ok, said) = purge(server.folder(), &["--worker", "another"]).await;
    assert!(ok && said.contains(" 0 results of another taken back"), "{said}");
    let (ok, said) = purge(server.folder(), &["--worker", "test-bot", "--until", "30M"]).await;
    assert!(ok && said.contains(" 0 results"), "it was executed later: {said}");
    let (ok, said) = purge(server.folder(), &["--worker", "test-bot", "--dry-run"]).await;
    assert!(ok && said.contains(" 1 results of test-bot would be taken back"), "{said}");
    assert!(said.contains(&action.hash) && is_cached(&channel, &action).await, "{said}");

    let (ok, said) = purge(server.folder(), &["--worker", "test-bot"]).await;
    assert!(ok && said.contains(" 1 results of test-bot taken back"), "{said}");
    assert!(!is_cached(&channel, &action).await);
    execute(&channel).await;
    assert!(is_cached(&channel, &action).await, "it ran again");
    server.stop().await;
}

#[tokio::test]
async fn what_only_the_servers_memory_has_is_said() {
    let server = Server::start(&config("sqlite:///queue.db", IN_MEMORY)).await;
    execute(&server.channel().await).await;
    let (ok, said) = purge(server.folder(), &["--worker", "test-bot"]).await;
    assert!(!ok && said.contains("caches[0]") && said.contains("restart the server"), "{said}");
    server.stop().await;
}
