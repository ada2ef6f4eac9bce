//! A server and its database: which of them is there first, and what is said of a schema that is old.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::sync::Arc;

use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::{ActionResult, GetActionResultRequest, UpdateActionResultRequest};
use grid_scheduler_sql::testing::Postgres;
use support::{Server, digest};

fn config(url: &str, automigrate: bool) -> String {
    let automigrate = if automigrate { "yes" } else { "no" };
    format!(
        "
connections: [!sql-connection &db {{connection-string: '{url}', automigrate: {automigrate}}}]
storages: [!disk-storage &disk {{path: cas}}, !sql-index &index {{storage: *disk, sql: *db}}]
instances: [{{name: '', services: [!cas {{storage: *index}}]}}]
"
    )
}

#[tokio::test]
async fn a_server_that_is_started_before_its_database_waits_and_then_serves() {
    let database = tokio::task::spawn_blocking(|| Arc::new(Postgres::start(&["-F"]))).await.unwrap();
    let url = database.create("grid");
    database.stop();
    let launch = {
        let database = Arc::clone(&database);
        move || database.launch(&["-F"])
    };
    let later = launch.clone();
    let server =
        Server::start_hearing(&config(&url, true), "waiting for it", || drop(std::thread::spawn(later)))
            .await;
    support::store_blob(server.channel().await, b"after all".to_vec()).await;

    // Calls wait for a database that restarts, too.
    database.stop();
    let late = tokio::spawn({
        let channel = server.channel().await;
        async move { support::store_blob(channel, b"meanwhile".to_vec()).await }
    });
    tokio::task::spawn_blocking(launch).await.unwrap();
    late.await.unwrap();
    assert!(support::has(server.channel().await, b"meanwhile").await);
    server.stop().await;
}

#[tokio::test]
async fn an_old_schema_is_refused_with_the_command_to_run() {
    let url = tokio::task::spawn_blocking(grid_scheduler_sql::testing::postgres_url).await.unwrap();
    let said = Server::refused(&config(&url, false)).await;
    assert!(said.contains("grid-server migrate"), "{said}");
    assert!(!said.contains("0201_cas_index.sql"), "{said}");
}

#[tokio::test]
async fn results_on_a_disk_and_in_the_embedded_database_survive_a_crash() {
    const KEPT: &str = "
instances:
  - name: ''
    storages: [!disk-storage &cas {path: cas}]
    caches: [!sql-action-cache &results {storage: *cas}]
    services: [!cas {storage: *cas}, !action-cache {cache: *results}]
";
    let server = Server::start(KEPT).await;
    let channel = server.channel().await;
    support::store_blob(channel.clone(), b"output".to_vec()).await;
    let named = ActionResult { stdout_digest: Some(digest(b"output")), ..ActionResult::default() };
    let lost = ActionResult { stdout_digest: Some(digest(b"never stored")), ..ActionResult::default() };
    let mut cache = ActionCacheClient::new(channel);
    for (action, result) in [(b"kept", &named), (b"lost", &lost)] {
        let update = UpdateActionResultRequest {
            action_digest: Some(digest(action)),
            action_result: Some(result.clone()),
            ..UpdateActionResultRequest::default()
        };
        cache.update_action_result(update).await.unwrap();
    }
    let server = server.kill().await.restart(KEPT).await;
    let mut cache = ActionCacheClient::new(server.channel().await);
    let mut get = async |action: &[u8]| {
        let get = GetActionResultRequest { action_digest: Some(digest(action)), ..Default::default() };
        cache.get_action_result(get).await
    };
    assert_eq!(get(b"kept").await.unwrap().into_inner().stdout_digest, named.stdout_digest);
    assert_eq!(get(b"lost").await.unwrap_err().code(), tonic::Code::NotFound, "its output is not there");
    server.stop().await;
}
