//! `!s3action-cache`: results as objects of S3 buckets, under BuildGrid's keys: `{salt_}{hash}_{size}`.
//!
//! That of several first results one wins is left to the service's conditional writes (`If-None-Match: *`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use grid_cas::StoreError;
use grid_cas::s3_client::{Fault, S3Connection, layout};
use grid_core::{Digest, DigestFunction};

use super::keyed::Values;

/// Values in S3.
#[derive(Debug)]
pub struct S3Values {
    connection: Arc<S3Connection>,
    bucket: String,
    prefix: String,
}

impl S3Values {
    /// The values in these buckets (`{digest[N]}` stands for a digit of the action's hash) of those who have this salt.
    #[must_use]
    pub fn new(connection: Arc<S3Connection>, bucket: &str, salt: Option<&str>) -> Self {
        let prefix = salt.map(|salt| format!("{salt}_")).unwrap_or_default();
        Self { connection, bucket: bucket.to_owned(), prefix }
    }

    fn place(&self, action: &Digest) -> (String, String) {
        let hash = action.hash_hex();
        let function = match action.function() {
            DigestFunction::Sha256 => String::new(),
            function => format!("{function}/"),
        };
        let bucket = layout::bucket_of(&self.bucket, &hash);
        (bucket, format!("{function}{}{hash}_{}", self.prefix, action.size()))
    }

    fn error(&self, fault: Fault) -> StoreError {
        fault.into_store_error(self.connection.name())
    }

    /// Sets a value; `sent` counts how often that was asked for.
    async fn set(
        &self,
        action: &Digest,
        value: Bytes,
        condition: Option<&str>,
        sent: &AtomicU32,
    ) -> Result<(), Fault> {
        let (bucket, key) = self.place(action);
        let limit = self.connection.write_limit(value.len() as u64);
        let send = || {
            sent.fetch_add(1, Ordering::Relaxed);
            let request = self.connection.client().put_object().bucket(&bucket).key(&key);
            let request = request.set_if_none_match(condition.map(str::to_owned));
            request.body(ByteStream::from(value.clone())).send()
        };
        self.connection.call(limit, send).await.map(drop)
    }
}

#[async_trait]
impl Values for S3Values {
    async fn get(&self, action: &Digest) -> Result<Option<Bytes>, StoreError> {
        let (bucket, key) = self.place(action);
        let request = self.connection.client().get_object().bucket(bucket.as_str()).key(key);
        let limit = self.connection.read_limit(0);
        match self.connection.call(limit, || request.clone().send()).await {
            Ok(answer) => {
                let body = tokio::time::timeout(limit, answer.body.collect()).await;
                let body = body.map_err(|_| self.error(self.connection.late(limit)))?;
                let body = body.map_err(|error| self.connection.unavailable(error.to_string()))?;
                Ok(Some(body.into_bytes()))
            }
            Err(Fault::Absent) => Ok(None),
            Err(fault) => Err(self.error(fault)),
        }
    }

    async fn put(&self, action: &Digest, value: Bytes) -> Result<(), StoreError> {
        self.set(action, value, None, &AtomicU32::new(0)).await.map_err(|fault| self.error(fault))
    }

    async fn put_new(&self, action: &Digest, value: Bytes) -> Result<bool, StoreError> {
        let sent = AtomicU32::new(0);
        match self.set(action, value.clone(), Some("*"), &sent).await {
            Ok(()) => Ok(true),
            // The answer to an earlier request may have been lost: then it is ours that is there.
            Err(Fault::Exists) if sent.into_inner() > 1 => Ok(self.get(action).await? == Some(value)),
            Err(Fault::Exists) => Ok(false),
            Err(fault) => Err(self.error(fault)),
        }
    }

    async fn delete(&self, action: &Digest) -> Result<(), StoreError> {
        let (bucket, key) = self.place(action);
        let request = self.connection.client().delete_object().bucket(bucket).key(key);
        match self.connection.call(self.connection.write_limit(0), || request.clone().send()).await {
            Ok(_) | Err(Fault::Absent) => Ok(()),
            Err(fault) => Err(self.error(fault)),
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let some = Digest::of(DigestFunction::Sha256, b"");
        self.connection.check_bucket(&self.place(&some).0).await
    }
}
