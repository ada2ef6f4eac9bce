//! What only `!redis-storage` promises: BuildGrid's keys, its limit, a server that restarts or fails over.

use std::sync::Arc;

use futures::future::join;
use grid_cas::backends::redis::Redis;
use grid_cas::conformance::{Subject, blob, blob_of, pieces};
use grid_cas::redis_client::{RedisConnection, RedisConnectionOptions};
use grid_cas::{BlobStore, ByteRange, StoreError};
use grid_core::{Digest, DigestFunction};

use super::redis_server::{Server, database, free_port, options};

pub(crate) async fn subject() -> Subject {
    Subject::new(Arc::new(Redis::new(database().await)))
}

fn store(options: RedisConnectionOptions) -> Redis {
    Redis::new(Arc::new(RedisConnection::new(options)))
}

#[tokio::test]
async fn values_are_where_buildgrid_has_them() {
    let connection = database().await;
    let subject = Subject::new(Arc::new(Redis::new(connection.clone())));
    for (function, size) in [(DigestFunction::Sha256, 1_000), (DigestFunction::Blake3, 1_000_000)] {
        let (digest, bytes) = blob_of(function, 1, size);
        subject.put(&digest, &bytes).await;
        let prefix = if function == DigestFunction::Sha256 { "" } else { "blake3:" };
        let key = format!("{prefix}{}_{size}", digest.hash_hex());
        let value: Vec<u8> = connection.command(&redis::Cmd::get(&key)).await.unwrap();
        assert_eq!(value, bytes);
        let expiry: i64 = connection.command(&redis::Cmd::ttl(&key)).await.unwrap();
        assert_eq!(expiry, -1, "a blob must not expire");
    }
    let keys: u64 = connection.command(&redis::cmd("DBSIZE")).await.unwrap();
    assert_eq!(keys, 2, "an upload leaves nothing else behind");
}

#[tokio::test]
async fn a_value_of_another_size_is_no_blob_and_is_replaced() {
    let connection = database().await;
    let subject = Subject::new(Arc::new(Redis::new(connection.clone())));
    let (digest, bytes) = blob(1, 1_000);
    let key = format!("{}_1000", digest.hash_hex());
    connection.command::<()>(&redis::Cmd::set(&key, "torn")).await.unwrap();
    assert!(!subject.has(&digest).await);
    assert!(matches!(subject.get_all(&digest).await, Err(StoreError::Corrupt { .. })));
    let batch = subject.store.read_batch(&[digest]).await.remove(0);
    assert!(matches!(batch, Err(StoreError::Corrupt { .. })), "{batch:?}");
    subject.put(&digest, &bytes).await;
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_blob_larger_than_a_value_can_be_is_refused_by_name() {
    let store = store(options(1, 0));
    let digest = Digest::new(DigestFunction::Sha256, &[7; 32], (512 << 20) + 1).unwrap();
    let refused = store.write(&digest, pieces(&vec![0; 10].into(), 10)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { limit: 0x2000_0000, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for_and_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().await;
    let path = folder.path().display().to_string();
    let durable = ["--dir", &path, "--appendonly", "yes", "--appendfsync", "always"];
    let server = Server::start(port, &durable).await;
    let subject = Subject::new(Arc::new(store(options(port, 0))));
    let ((small, s), (large, l)) = (blob(1, 1_000), blob(2, 2_000_000));
    subject.put(&small, &s).await;
    // Killed, not stopped.
    server.end().await;
    let restart = async { Server::start(port, &durable).await };
    let (_server, ()) = join(restart, subject.put(&large, &l)).await;
    assert_eq!(subject.get_all(&small).await.unwrap(), s);
    assert_eq!(subject.get_all(&large).await.unwrap(), l);
}

#[tokio::test]
async fn a_server_that_stays_away_is_unavailable() {
    let store = store(options(free_port().await, 0));
    let (digest, _) = blob(1, 10);
    tokio::time::pause();
    let error = store.find_missing(&[digest]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("storages[0] !redis-storage"), "{error}");
    assert!(store.probe().await.is_err());
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_password_is_not() {
    let port = free_port().await;
    let _server = Server::start(port, &["--requirepass", "sesame", "--maxmemory", "3mb"]).await;
    let (digest, bytes) = blob(1, 100_000);
    for password in [None, Some("wrong-word".to_owned())] {
        let error = store(RedisConnectionOptions { password, ..options(port, 0) });
        let error = error.find_missing(&[digest]).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert!(
            error.to_string().contains("password") && !error.to_string().contains("wrong-word"),
            "{error}"
        );
    }
    let right = RedisConnectionOptions { password: Some("sesame".into()), resp3: true, ..options(port, 0) };
    assert!(!format!("{right:?}").contains("sesame"));
    let store = store(right);
    store.write(&digest, pieces(&bytes, 1_000)).await.unwrap();
    let mut full = Ok(());
    for seed in 2..50 {
        let (digest, bytes) = blob(seed, 100_000);
        full = full.and(store.write(&digest, pieces(&bytes, 1_000)).await);
    }
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    let read = Subject::new(Arc::new(store)).get(&digest, ByteRange::default()).await;
    assert_eq!(read.unwrap(), bytes);
}

#[tokio::test]
async fn sentinels_lead_to_the_primary_and_to_its_successor() {
    let (first, second, sentinel) = (free_port().await, free_port().await, free_port().await);
    let primary = Server::start(first, &["--save", ""]).await;
    let replica = ["--save", "", "--replicaof", "127.0.0.1", &first.to_string()].map(str::to_owned);
    let _replica = Server::start(second, &replica.each_ref().map(String::as_str)).await;
    let config = format!(
        "sentinel monitor main 127.0.0.1 {first} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 3000\n"
    );
    let mut sentinels = Server::sentinel(sentinel, &config).await;
    let named = RedisConnectionOptions { sentinel_master: Some("main".into()), ..options(sentinel, 0) };
    let connection = Arc::new(RedisConnection::new(named));
    let subject = Subject::new(Arc::new(Redis::new(connection.clone())));
    let ((a, a_bytes), (b, b_bytes)) = (blob(1, 1_000), blob(2, 1_000_000));
    subject.put(&a, &a_bytes).await;
    // The replica has it, and the sentinel knows the replica.
    let replicas: u64 = connection.command(redis::cmd("WAIT").arg(1).arg(15_000)).await.unwrap();
    assert_eq!(replicas, 1);
    sentinels.says("+slave").await;
    primary.end().await;
    subject.put(&b, &b_bytes).await;
    assert_eq!(subject.get_all(&a).await.unwrap(), a_bytes);
    assert_eq!(subject.get_all(&b).await.unwrap(), b_bytes);
}
