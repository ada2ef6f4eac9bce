//! A server and its database: which of them is there first, and what is said of a schema that is old.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::sync::Arc;

use grid_scheduler_sql::testing::Postgres;
use support::Server;

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
