//! Versioned deletes, against a bucket that keeps versions: a small one of the test's own behind the s3s protocol, since
//! s3s-fs has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use grid_cas::backends::s3::{S3, S3Options};
use grid_cas::conformance::{Subject, blob};
use grid_cas::form::Form;
use grid_cas::s3_client::layout::Layout;
use parking_lot::Mutex;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::s3_server::Server;

/// The versions of each key, and whether each is the mark of a deletion. A version's number is its id.
type Versions = BTreeMap<String, Vec<(u32, Option<usize>)>>;

#[derive(Debug, Default)]
struct Bucket(Arc<Mutex<(u32, Versions)>>);

impl Bucket {
    fn add(&self, key: &str, content: Option<usize>) {
        let (next, versions) = &mut *self.0.lock();
        *next += 1;
        versions.entry(key.to_owned()).or_default().push((*next, content));
    }
}

#[async_trait::async_trait]
impl s3s::S3 for Bucket {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let body = request.input.body.unwrap();
        let size = body.map_ok(|piece| piece.len()).try_fold(0, |sum, len| async move { Ok(sum + len) });
        self.add(&request.input.key, Some(size.await.unwrap()));
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let state = self.0.lock();
        let latest = state.1.get(&request.input.key).and_then(|versions| versions.last()?.1);
        let size = latest.ok_or_else(|| s3_error!(NoSuchKey))?;
        let content_length = i64::try_from(size).ok();
        Ok(S3Response::new(HeadObjectOutput { content_length, ..Default::default() }))
    }

    async fn head_bucket(&self, _: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        for object in request.input.delete.objects {
            let Some(id) = object.version_id else {
                self.add(&object.key, None);
                continue;
            };
            let mut state = self.0.lock();
            let versions = state.1.get_mut(&object.key).unwrap();
            versions.retain(|(number, _)| number.to_string() != id);
        }
        self.0.lock().1.retain(|_, versions| !versions.is_empty());
        Ok(S3Response::new(DeleteObjectsOutput::default()))
    }

    /// One version a page, so that pages are turned.
    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let after = input.version_id_marker.and_then(|id| id.parse::<u32>().ok()).unwrap_or(0);
        let state = self.0.lock();
        let all = state.1.iter().filter(|(key, _)| key.starts_with(&prefix));
        let mut all: Vec<_> = all.flat_map(|(key, list)| list.iter().map(move |v| (v.0, key, v.1))).collect();
        all.sort_unstable();
        all.retain(|(number, ..)| *number > after);
        let mut answer = ListObjectVersionsOutput { is_truncated: Some(all.len() > 1), ..Default::default() };
        if let Some((number, key, content)) = all.first() {
            let (key, id) = (Some((*key).clone()), Some(number.to_string()));
            answer.next_key_marker.clone_from(&key);
            answer.next_version_id_marker.clone_from(&id);
            if content.is_some() {
                answer.versions = Some(vec![ObjectVersion { key, version_id: id, ..Default::default() }]);
            } else {
                answer.delete_markers =
                    Some(vec![DeleteMarkerEntry { key, version_id: id, ..Default::default() }]);
            }
        }
        Ok(S3Response::new(answer))
    }
}

#[tokio::test]
async fn a_versioned_delete_removes_every_version_and_nothing_else() {
    let bucket = Bucket::default();
    let versions = Arc::clone(&bucket.0);
    let server = Server::serve(bucket, tempfile::tempdir().unwrap()).await;
    let store = async |versioned_deletes| {
        let options = S3Options { layout: Layout::plain("main"), versioned_deletes, form: Form::Plain };
        Subject::new(Arc::new(S3::new(server.connection().await, options)))
    };
    let (plain, versioned) = (store(false).await, store(true).await);
    let ((digest, bytes), (other, other_bytes)) = (blob(1, 1_000), blob(2, 1_000));
    let longer = format!("{}_10000", digest.hash_hex());
    for _ in 0..2 {
        plain.put(&digest, &bytes).await;
        assert!(plain.store.delete(&[digest]).await[0].is_ok());
        assert!(!plain.has(&digest).await);
    }
    plain.put(&digest, &bytes).await;
    plain.put(&other, &other_bytes).await;
    versions.lock().1.insert(longer.clone(), vec![(1_000, Some(5))]);
    assert_eq!(versions.lock().1.values().map(Vec::len).sum::<usize>(), 5 + 1 + 1);
    assert!(versioned.store.delete(&[digest]).await[0].is_ok());
    let left: Vec<String> = versions.lock().1.keys().cloned().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&longer) && versioned.has(&other).await);
}
