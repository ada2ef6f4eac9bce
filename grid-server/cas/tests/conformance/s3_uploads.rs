//! Uploads in parts: those that nobody finishes are given up, against a service of the test's own behind the s3s protocol,
//! since s3s-fs lists none; and parts are sent while others are still to come.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use grid_cas::ByteStream;
use grid_cas::backends::s3::{S3, S3Options};
use grid_cas::conformance::{blob, pieces};
use grid_cas::form::Form;
use grid_cas::fsck::Indexed;
use grid_cas::janitor::{Options, sweep};
use grid_cas::s3_client::layout::Layout;
use grid_core::SystemClock;
use http::Method;
use parking_lot::Mutex;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::databases::{index, sqlite_pool};
use super::s3_server::Server;

/// Keys of unfinished uploads, and when they were begun.
#[derive(Clone, Debug, Default)]
struct Uploads(Arc<Mutex<Vec<(String, Duration)>>>);

#[async_trait::async_trait]
impl s3s::S3 for Uploads {
    async fn list_objects_v2(
        &self,
        _: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        Ok(S3Response::new(ListObjectsV2Output::default()))
    }

    /// One upload a page, so that pages are turned.
    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let (prefix, marker) = (request.input.prefix.unwrap_or_default(), request.input.key_marker);
        let mut all = self.0.lock().clone();
        all.sort_unstable();
        all.retain(|(key, _)| key.starts_with(&prefix) && marker.as_ref().is_none_or(|after| key > after));
        let mut answer =
            ListMultipartUploadsOutput { is_truncated: Some(all.len() > 1), ..Default::default() };
        if let Some((key, age)) = all.first() {
            let initiated = Some((std::time::SystemTime::now() - *age).into());
            let (key, upload_id) = (Some(key.clone()), Some("id".to_owned()));
            answer.next_key_marker.clone_from(&key);
            answer.next_upload_id_marker.clone_from(&upload_id);
            answer.uploads = Some(vec![MultipartUpload { key, upload_id, initiated, ..Default::default() }]);
        }
        Ok(S3Response::new(answer))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        assert_eq!(request.input.upload_id, "id");
        self.0.lock().retain(|(key, _)| *key != request.input.key);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

#[tokio::test]
async fn the_janitor_gives_up_old_uploads_of_blobs_and_no_others() {
    let layout = Layout { path_prefix: Some("cas".into()), ..Layout::plain("main") };
    let hour = Duration::from_secs(3600);
    let keys: Vec<String> = (0..4).map(|seed| layout.key_of(&blob(seed, 1_000).0)).collect();
    let uploads = Uploads::default();
    let begun = |key: &str, hours: u32| (key.to_owned(), hour * hours);
    *uploads.0.lock() = vec![
        begun(&keys[0], 25),
        begun(&keys[1], 30),
        begun(&keys[2], 23),
        begun("cas/of-somebody-else", 100),
        begun("elsewhere/0_1", 100),
    ];
    let server = Server::serve(uploads.clone(), tempfile::tempdir().unwrap()).await;
    let options = S3Options { layout, versioned_deletes: false, form: Form::Plain };
    let backend = Arc::new(S3::new(server.connection().await, options));
    let (pool, _folder) = sqlite_pool().await;
    let what =
        Indexed { index: index(pool, Duration::ZERO), storage: backend.clone(), backends: vec![backend] };
    let dry = Options { dry_run: true, ..Options::default() };
    assert_eq!(sweep(&what, &SystemClock, dry, &|_, _| {}).await.unwrap().abandoned, 2);
    assert_eq!(uploads.0.lock().len(), 5, "nothing is changed by looking");
    let report = sweep(&what, &SystemClock, Options::default(), &|_, _| {}).await.unwrap();
    assert!(report.to_string().contains("2 uploads were never finished"), "{report}");
    let left: Vec<String> = uploads.0.lock().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(left, [keys[2].as_str(), "cas/of-somebody-else", "elsewhere/0_1"]);
}

#[tokio::test]
async fn a_part_is_sent_while_the_next_one_is_still_to_come() {
    let server = Server::start().await;
    server.bucket("main");
    let store = server.store(Layout::plain("main")).await;
    let (digest, bytes) = blob(1, 20_000_000);
    let (first, rest) = (bytes.slice(..10_000_000), bytes.slice(10_000_000..));
    let state = Arc::clone(&server.state);
    let sent = stream::once(async move {
        while state.count(&Method::PUT) == 0 {
            tokio::task::yield_now().await;
        }
    });
    let rest = sent.flat_map(move |()| pieces(&rest, 1_000_000));
    let content: ByteStream = Box::pin(pieces(&first, 1_000_000).chain(rest));
    let write = tokio::time::timeout(Duration::from_secs(60), store.write(&digest, content));
    write.await.expect("nothing was sent while the rest was to come").unwrap();
    assert!(store.find_missing(&[digest]).await.unwrap().is_empty());
}
