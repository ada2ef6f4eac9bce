//! What only `!s3-storage` promises: BuildGrid's keys, requests counted, throttling waited for, errors that say what to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use grid_cas::backends::s3::{S3, S3Options};
use grid_cas::conformance::{Subject, blob, blob_of, pieces};
use grid_cas::form::Form;
use grid_cas::s3_client::layout::Layout;
use grid_cas::s3_client::{S3Connection, TimeLimit};
use grid_cas::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};
use grid_core::{Coded, DigestFunction, ErrorCode};
use http::Method;

use super::s3_server::{SECRET, Server};

async fn started() -> (Server, Subject) {
    let server = Server::start().await;
    server.bucket("main");
    let subject = Subject::new(server.store(Layout::plain("main")).await);
    (server, subject)
}

#[tokio::test]
async fn objects_are_where_buildgrid_has_them() {
    let server = Server::start().await;
    let (digest, bytes) = blob_of(DigestFunction::Sha256, 1, 1_000);
    let (blake, _) = blob_of(DigestFunction::Blake3, 1, 1_000);
    let hash = digest.hash_hex();
    let bucket = format!("cas-{}", &hash[..1]);
    server.bucket(&bucket);
    let layout = Layout {
        bucket: "cas-{digest[0]}".into(),
        path_prefix: Some("some/where".into()),
        hash_prefix_size: 3,
    };
    let subject = Subject::new(server.store(layout.clone()).await);
    subject.put(&digest, &bytes).await;
    let path = server.folder.path().join(&bucket).join("some/where").join(&hash[..3]);
    assert_eq!(std::fs::read(path.join(format!("{}_1000", &hash[3..]))).unwrap(), bytes);
    assert!(layout.key_of(&blake).starts_with("some/where/blake3/"));
}

#[tokio::test]
async fn a_small_blob_costs_one_request_and_a_large_one_goes_in_parts() {
    let (server, subject) = started().await;
    let (small, s) = blob(1, 1_000);
    subject.put(&small, &s).await;
    assert_eq!(server.state.seen.lock().len(), 1);
    let (large, l) = blob(2, 20_000_000);
    subject.put(&large, &l).await;
    // Three parts; the object itself comes into being by a POST.
    assert_eq!(server.state.count(&Method::PUT), 1 + 3);
    assert_eq!(subject.get_all(&large).await.unwrap(), l);
    let digests: Vec<_> = (0..2_500).map(|seed| blob(seed, 50).0).collect();
    server.state.seen.lock().clear();
    assert!(subject.store.delete(&digests).await.iter().all(Result::is_ok));
    assert_eq!(server.state.count(&Method::POST), 3, "a thousand deletions a request");
}

#[tokio::test]
async fn throttling_is_waited_for_whatever_the_call() {
    let (server, subject) = started().await;
    let ((small, s), (large, l)) = (blob(1, 1_000), blob(2, 20_000_000));
    let throttle = || server.state.throttle.store(2, Ordering::SeqCst);
    throttle();
    subject.put(&small, &s).await;
    throttle();
    subject.put(&large, &l).await;
    throttle();
    assert!(subject.has(&small).await);
    throttle();
    assert_eq!(subject.get_all(&large).await.unwrap(), l);
    throttle();
    assert!(subject.store.delete(&[small]).await[0].is_ok());
    assert_eq!(server.state.throttle.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn deletions_carry_the_sum_that_older_services_demand() {
    let (server, subject) = started().await;
    let (digest, bytes) = blob(1, 1_000);
    subject.put(&digest, &bytes).await;
    server.state.wants_md5.store(true, Ordering::SeqCst);
    let deleted = subject.store.delete(&[digest]).await.remove(0);
    assert!(deleted.is_ok(), "{deleted:?}");
    assert!(!subject.has(&digest).await);
}

#[tokio::test(start_paused = true)]
async fn throttling_without_end_is_unavailable_with_the_time_to_come_back() {
    let (server, subject) = started().await;
    server.state.throttle.store(u32::MAX, Ordering::SeqCst);
    let error = subject.store.find_missing(&[blob(1, 10).0]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error}");
}

#[tokio::test]
async fn unfinished_uploads_beyond_the_buffers_stream_through_and_leave_nothing() {
    let (server, subject) = started().await;
    // Eight parts fill the buffers: these uploads hold one each, and wait for more.
    let mut held = Vec::new();
    for seed in 0..8 {
        let (digest, bytes) = blob(seed, 8 << 20);
        let (reached, middle) = tokio::sync::oneshot::channel();
        let tell = stream::once(async move {
            reached.send(()).ok();
            futures::future::pending().await
        });
        let content: ByteStream = Box::pin(pieces(&bytes.slice(..1_000), 100).chain(tell));
        let store = subject.store.clone();
        held.push(tokio::spawn(async move { store.write(&digest, content).await }));
        middle.await.unwrap();
    }
    server.state.seen.lock().clear();
    for size in [1_000, 5_000_000, 20_000_000] {
        let (digest, bytes) = blob(100, size);
        subject.store.write(&digest, pieces(&bytes, 70_001)).await.unwrap();
        assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
        let (broken, bytes) = blob(101, size);
        let error = StoreError::Interrupted("the client went away".into());
        let content: ByteStream = Box::pin(pieces(&bytes, 70_001).chain(stream::iter([Err(error)])));
        let error = subject.store.write(&broken, content).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Cancelled, "{error}");
        assert!(!subject.has(&broken).await, "{size} bytes whose end was no clean one were stored");
    }
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_is_wrong_with_the_bucket_or_the_keys_is_said() {
    let server = Server::start().await;
    let store = server.store(Layout::plain("elsewhere")).await;
    let ((digest, bytes), (large, l)) = (blob(1, 10), blob(2, 2_000_000));
    // A put of a small blob would do as well; but this server makes buckets as it is told of them.
    for (what, answer) in [
        ("find_missing", store.find_missing(&[digest]).await.map(drop)),
        ("read", store.read(&digest, ByteRange::default()).await.map(drop)),
        ("large write", store.write(&large, pieces(&l, 10_000)).await),
        ("probe", store.probe().await),
    ] {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{what}: {error}");
        assert!(error.to_string().contains("storages[0] !s3-storage at http://127.0.0.1"), "{error}");
        assert!(error.to_string().contains("bucket"), "{what}: {error}");
    }
    server.bucket("main");
    let wrong = super::s3_server::options(&server.endpoint, "AKIAGRID", "wrong-secret");
    let connection = Arc::new(S3Connection::new(wrong).await.unwrap());
    let options = S3Options { layout: Layout::plain("main"), versioned_deletes: false, form: Form::Plain };
    let store: SharedStore = Arc::new(S3::new(connection, options));
    let error = store.write(&digest, pieces(&bytes, 10)).await.unwrap_err().to_string();
    assert!(error.contains("access-key"), "{error}");
    assert!(!error.contains(SECRET) && !error.contains("wrong-secret"), "{error}");
    assert!(store.find_missing(&[digest]).await.is_err(), "no existence from a service that refuses us");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_is_unavailable_after_a_minute() {
    let (server, subject) = started().await;
    server.state.away.store(true, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    let error = subject.store.find_missing(&[blob(1, 10).0]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(began.elapsed() > Duration::from_secs(50), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_object_of_another_size_is_no_blob_and_is_replaced() {
    let (server, subject) = started().await;
    let (digest, bytes) = blob(1, 3_000_000);
    let path = server.folder.path().join("main").join(format!("{}_3000000", digest.hash_hex()));
    std::fs::write(&path, &bytes[..2_999_999]).unwrap();
    assert!(!subject.has(&digest).await);
    assert!(matches!(subject.get_all(&digest).await, Err(StoreError::Corrupt { .. })));
    let part = ByteRange { offset: 10, limit: Some(10) };
    assert!(matches!(subject.get(&digest, part).await, Err(StoreError::Corrupt { .. })));
    subject.put(&digest, &bytes).await;
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut options = super::s3_server::options(&endpoint, "a", "b");
    options.reads = TimeLimit { least: Duration::from_secs(41), per_kilobyte: None };
    let connection = Arc::new(S3Connection::new(options).await.unwrap());
    let store = S3::new(
        connection,
        S3Options { layout: Layout::plain("main"), versioned_deletes: false, form: Form::Plain },
    );
    let error = store.find_missing(&[blob(1, 10).0]).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 41s"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused() {
    for endpoint in ["", "localhost:9000", "ftp://host", "http:///x"] {
        let refused = S3Connection::new(super::s3_server::options(endpoint, "a", "b")).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{endpoint}");
    }
}
