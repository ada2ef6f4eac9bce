//! Deletions, a thousand objects a request.

use std::collections::BTreeMap;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{Delete, ObjectIdentifier, ObjectVersion};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::stream::{self, StreamExt};
use grid_core::{Digest, DigestFunction};

use super::{AT_ONCE, Place, S3};
use crate::StoreError;
use crate::content::{self, DigestMap};
use crate::s3_client::Fault;

/// How many objects one request names at most (S3 API, `DeleteObjects`).
const OBJECTS: usize = 1_000;

type Answers = DigestMap<Result<(), StoreError>>;

/// An object, or one of its versions, and the blob that it is.
type Named = (Digest, ObjectIdentifier);

pub(super) async fn delete(store: &S3, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
    let mut answers = Answers::default();
    let mut buckets: BTreeMap<String, Vec<Named>> = BTreeMap::new();
    for (digest, place, found) in objects(store, content::missing_of(digests, |_| false)).await {
        match found {
            Ok(objects) => {
                let named = objects.into_iter().map(|object| (digest, object));
                buckets.entry(place.bucket).or_default().extend(named);
            }
            Err(error) => drop(answers.insert(digest, Err(error))),
        }
    }
    for (bucket, objects) in &buckets {
        for part in objects.chunks(OBJECTS) {
            delete_part(store, bucket, part, &mut answers).await;
        }
    }
    digests.iter().map(|digest| answers.get(digest).cloned().unwrap_or(Ok(()))).collect()
}

/// The objects to delete for each blob: itself, or all of its versions.
async fn objects(
    store: &S3,
    digests: Vec<Digest>,
) -> Vec<(Digest, Place, Result<Vec<ObjectIdentifier>, StoreError>)> {
    let object = |digest| async move {
        let place = store.place(&digest);
        let objects = if store.0.options.versioned_deletes {
            versions(store, &place).await
        } else {
            identifier(&place.key, None).map(|object| vec![object]).ok_or_else(|| unnamed(store))
        };
        (digest, place, objects)
    };
    stream::iter(digests.into_iter().map(object)).buffer_unordered(AT_ONCE).collect().await
}

fn identifier(key: &str, version: Option<&str>) -> Option<ObjectIdentifier> {
    ObjectIdentifier::builder().key(key).set_version_id(version.map(str::to_owned)).build().ok()
}

fn unnamed(store: &S3) -> StoreError {
    let (backend, message) = (store.connection().name().clone(), "a deletion names no key".into());
    StoreError::Internal { backend, message }
}

/// Every version of an object, and the marks of its earlier deletions.
async fn versions(store: &S3, place: &Place) -> Result<Vec<ObjectIdentifier>, StoreError> {
    let connection = store.connection();
    let (mut found, mut markers) = (Vec::new(), (None, None));
    loop {
        let (key_marker, version_marker): &(Option<String>, Option<String>) = &markers;
        let request = || {
            let request = connection.client().list_object_versions();
            let request = request.bucket(&place.bucket).prefix(&place.key);
            let request = request.set_key_marker(key_marker.clone());
            request.set_version_id_marker(version_marker.clone()).send()
        };
        let page = connection.call(connection.read_limit(0), request).await.map_err(|f| store.error(f))?;
        let marks = page.delete_markers().iter().map(|mark| (mark.key(), mark.version_id()));
        let versions =
            page.versions().iter().map(|version: &ObjectVersion| (version.key(), version.version_id()));
        // The prefix also finds longer keys.
        let ours = versions.chain(marks).filter(|(key, _)| *key == Some(&place.key));
        found.extend(ours.filter_map(|(_, version)| identifier(&place.key, version)));
        if page.is_truncated() != Some(true) {
            return Ok(found);
        }
        markers = (page.next_key_marker, page.next_version_id_marker);
    }
}

/// Older services refuse a `DeleteObjects` without `Content-MD5`, and don't know the checksum that the library sends.
fn add_md5(request: &mut HttpRequest) {
    let Some(body) = request.body().bytes() else { return };
    let sum = BASE64_STANDARD.encode(Digest::of(DigestFunction::Md5, body).hash_bytes());
    request.headers_mut().insert("content-md5", sum);
}

async fn delete_part(store: &S3, bucket: &str, part: &[Named], answers: &mut Answers) {
    let connection = store.connection();
    let objects = part.iter().map(|(_, object)| object.clone()).collect();
    let Ok(delete) = Delete::builder().set_objects(Some(objects)).quiet(true).build() else { return };
    let request = || {
        let request = connection.client().delete_objects().bucket(bucket).delete(delete.clone());
        request.customize().mutate_request(add_md5).send()
    };
    match connection.call(connection.write_limit(0), request).await {
        Ok(answer) => {
            for error in answer.errors() {
                let Some(failed) = connection.key_error(error.code(), error.message()) else { continue };
                let named = part.iter().find(|(_, object)| Some(object.key()) == error.key());
                if let Some((digest, _)) = named {
                    answers.insert(*digest, Err(failed));
                }
            }
        }
        Err(Fault::Absent) => {}
        Err(fault) => {
            let error = store.error(fault);
            answers.extend(part.iter().map(|(digest, _)| (*digest, Err(error.clone()))));
        }
    }
}
