//! `!remote-storage` against a server of this test's own: what breaks off goes on, what is away is waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grid_cas::backends::remote::Remote;
use grid_cas::client::{Connection, ConnectionOptions, Patience, Tuning};
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::{BlobStore, StoreError};

use super::served::Served;
use super::trees::{ROOM, lru};

fn remote(server: &Served, patience: Patience) -> Remote {
    let options = ConnectionOptions { patience, ..ConnectionOptions::new(&server.url(), "main") };
    Remote::new(Connection::new(options).unwrap())
}

pub(crate) async fn subject() -> Subject {
    let server = Served::start(lru(ROOM)).await;
    Subject::new(Arc::new(remote(&server, Patience::default()))).keeping(server).without_deletes()
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let server = Served::start(lru(ROOM)).await;
    let subject = Subject::new(Arc::new(remote(&server, Patience::default())));
    let (digest, bytes) = blob(1, 12_000_000);
    for break_after in [1, 5_000_000, 11_900_000] {
        server.state.break_write_after.store(break_after, Ordering::SeqCst);
        let (digest, bytes) = blob(break_after, 12_000_000);
        subject.store.write(&digest, pieces(&bytes, 100_000)).await.unwrap();
        assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
    }
    server.state.break_read_after.store(5_000_000, Ordering::SeqCst);
    subject.put(&digest, &bytes).await;
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
    assert_eq!(server.state.break_read_after.load(Ordering::SeqCst), 0, "the read did break off");
}

#[tokio::test]
async fn a_server_that_comes_back_is_waited_for() {
    let mut server = Served::start(lru(ROOM)).await;
    let subject = Subject::new(Arc::new(remote(&server, Patience::default())));
    let ((small, s), (large, l)) = (blob(1, 1_000), blob(2, 3_000_000));
    subject.put(&small, &s).await;
    server.stop().await;
    let calls = async {
        subject.put(&large, &l).await;
        assert!(subject.has(&small).await);
        assert_eq!(
            subject.store.read_batch(&[large, small]).await.into_iter().flatten().collect::<Vec<_>>(),
            [l, s]
        );
    };
    let comeback = async {
        server.hang_up_on(3).await;
        server.restart();
    };
    tokio::join!(calls, comeback);
}

/// A host that takes connections, and then nothing.
#[tokio::test]
async fn a_server_that_takes_nothing_of_an_upload_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taking = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = listener.accept().await {
            held.push(connection);
        }
    });
    let wait = Duration::from_millis(300);
    let patience = Patience { wait, request_timeout: Some(wait), ..Patience::default() };
    let options = ConnectionOptions { patience, ..ConnectionOptions::new(&url, "main") };
    let remote = Remote::new(Connection::new(options).unwrap());
    let (digest, bytes) = blob(1, 12_000_000);
    let write = tokio::time::timeout(Duration::from_secs(60), remote.write(&digest, pieces(&bytes, 100_000)));
    let answer = write.await.unwrap();
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    taking.abort();
}

#[tokio::test]
async fn a_server_that_stays_away_is_unavailable_when_patience_ends() {
    let mut server = Served::start(lru(ROOM)).await;
    let remote = remote(&server, Patience { wait: Duration::from_millis(300), ..Patience::default() });
    server.stop().await;
    let (digest, bytes) = blob(1, 1_000_000);
    for answer in [
        remote.find_missing(&[digest]).await.map(drop),
        remote.read(&digest, Default::default()).await.map(drop),
        remote.write(&digest, pieces(&bytes, 100_000)).await,
        remote.read_batch(&[digest]).await.remove(0).map(drop),
        remote.write_batch(vec![(digest, bytes)]).await.remove(0),
    ] {
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn a_token_is_sent_and_its_absence_is_explained() {
    let server = Served::start(lru(ROOM)).await;
    *server.state.token.lock() = Some("Bearer sesame".into());
    let (digest, _) = blob(1, 10);
    let refused = remote(&server, Patience::default()).find_missing(&[digest]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "sesame\n").unwrap();
    let options =
        ConnectionOptions { token_file: Some(path), ..ConnectionOptions::new(&server.url(), "main") };
    let remote = Remote::new(Connection::new(options).unwrap());
    assert_eq!(remote.find_missing(&[digest]).await.unwrap(), [digest]);
    assert!(!format!("{remote:?}").contains("sesame"));
}

#[tokio::test]
async fn what_is_said_about_the_connection_has_an_effect() {
    let server = Served::start(lru(ROOM)).await;
    let tuned = |tuning| {
        let options = ConnectionOptions { tuning, ..ConnectionOptions::new(&server.url(), "main") };
        Subject::new(Arc::new(Remote::new(Connection::new(options).unwrap())))
    };
    let (digest, bytes) = blob(1, 100_000);
    let subject = tuned(Tuning {
        user_agent: Some("ours/1".into()),
        one_address: true,
        stream_window: Some(70_000),
        adaptive_window: Some(true),
        keepalive_time: Some(Duration::from_secs(5)),
        keepalive_without_calls: true,
        authority: Some("cas.example:80".into()),
        ..Tuning::default()
    });
    subject.put(&digest, &bytes).await;
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
    assert!(server.state.agent.lock().starts_with("ours/1 "), "{}", server.state.agent.lock());
    let small = tuned(Tuning { max_receive_message: Some(10_000), ..Tuning::default() });
    assert!(small.store.read_batch(&[digest]).await[0].is_err(), "a message over the limit was taken");
    let (other, other_bytes) = blob(2, 100_000);
    let small = tuned(Tuning { max_send_message: Some(10_000), ..Tuning::default() });
    let refused = small.store.write(&other, pieces(&other_bytes, 1_000)).await;
    assert!(refused.is_err(), "a message over the limit was sent");
    for tuning in [
        Tuning { user_agent: Some("a\nb".into()), ..Tuning::default() },
        Tuning { authority: Some("not an authority".into()), one_address: true, ..Tuning::default() },
    ] {
        let options = ConnectionOptions { tuning, ..ConnectionOptions::new("http://127.0.0.1:1", "main") };
        assert!(matches!(Connection::new(options), Err(StoreError::Refused { .. })));
    }
}

#[tokio::test]
async fn addresses_that_cannot_be_used_are_refused_with_a_reason() {
    for (url, reason) in [("localhost:50051", "expected http"), ("ftp://host:1", "expected http")] {
        let error = Connection::new(ConnectionOptions::new(url, "")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let options =
        ConnectionOptions { tls_ca: Some("/no/such".into()), ..ConnectionOptions::new("https://host:1", "") };
    let error = Connection::new(options).unwrap_err();
    assert!(error.to_string().contains("/no/such"), "{error}");
}
