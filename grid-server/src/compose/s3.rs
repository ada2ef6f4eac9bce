//! S3 services.

use std::sync::Arc;

use grid_cache::backends::s3::S3Values;
use grid_cas::StoreError;
use grid_cas::backends::s3::{S3, S3Options};
use grid_cas::form::Form;
use grid_cas::s3_client::layout::Layout;
use grid_cas::s3_client::{S3Connection, S3ConnectionOptions, S3Credentials, TimeLimit};
use grid_config::model::{Place, S3ActionCache, S3Storage, Secret};

use super::databases::address;

/// A storage in S3.
pub(super) async fn storage(storage: &S3Storage, place: &Place, form: Form) -> Result<S3, StoreError> {
    let options = S3ConnectionOptions {
        reads: TimeLimit { least: storage.read_timeout_min, per_kilobyte: storage.read_timeout_per_kilobyte },
        writes: TimeLimit {
            least: storage.write_timeout_min,
            per_kilobyte: storage.write_timeout_per_kilobyte,
        },
        ..options(&storage.endpoint, &storage.bucket, storage.keys.as_ref(), place)
    };
    let connection = Arc::new(S3Connection::new(options).await?);
    let prefix = storage.path_prefix.as_deref().map(|prefix| prefix.trim_matches('/'));
    let layout = Layout {
        bucket: storage.bucket.clone(),
        path_prefix: prefix.filter(|prefix| !prefix.is_empty()).map(str::to_owned),
        hash_prefix_size: storage.hash_prefix_size,
    };
    Ok(S3::new(connection, S3Options { layout, versioned_deletes: storage.versioned_deletes, form }))
}

/// An action cache's values in S3.
pub(super) async fn values(cache: &S3ActionCache, place: &Place) -> Result<S3Values, StoreError> {
    let options = options(&cache.endpoint, &cache.bucket, cache.keys.as_ref(), place);
    let connection = Arc::new(S3Connection::new(options).await?);
    Ok(S3Values::new(connection, &cache.bucket, cache.entries.salt.as_deref()))
}

fn options(
    endpoint: &str,
    bucket: &str,
    keys: Option<&(Secret, Secret)>,
    place: &Place,
) -> S3ConnectionOptions {
    let credentials = keys.map_or(S3Credentials::Environment, |(access, secret)| S3Credentials::Keys {
        access: access.reveal().to_owned(),
        secret: secret.reveal().to_owned(),
    });
    S3ConnectionOptions {
        endpoint: endpoint.to_owned(),
        credentials,
        reads: TimeLimit::default(),
        writes: TimeLimit::default(),
        name: format!("{place} at {}/{bucket}", address(endpoint).trim_end_matches('/')).into(),
    }
}
