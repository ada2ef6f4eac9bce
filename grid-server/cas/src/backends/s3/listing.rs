//! What the buckets hold, a thousand objects a request.

use async_trait::async_trait;
use aws_sdk_s3::primitives::DateTime;
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_core::{Digest, Timestamp};

use super::{AT_ONCE, S3};
use crate::StoreError;
use crate::inventory::{Inventory, Pages, Stored};
use crate::s3_client::Fault;

/// Where a walk through the buckets is.
struct Walk {
    /// The buckets that are still to come; the last one is next.
    buckets: Vec<String>,
    /// Where the page after the last one begins.
    token: Option<String>,
}

impl S3 {
    fn walk(&self) -> Result<Walk, StoreError> {
        let buckets = self.0.options.layout.buckets().ok_or_else(|| StoreError::Refused {
            backend: self.connection().name().clone(),
            message:
                "`bucket` names too many buckets to list; at most two digits of the digest can stand in it"
                    .into(),
        })?;
        Ok(Walk { buckets, token: None })
    }

    async fn page(&self, mut walk: Walk) -> Result<Option<(Vec<Stored>, Walk)>, StoreError> {
        let Some(bucket) = walk.buckets.last() else { return Ok(None) };
        let (connection, layout) = (self.connection(), &self.0.options.layout);
        let request = || {
            let request = connection.client().list_objects_v2().bucket(bucket).prefix(layout.root());
            request.set_continuation_token(walk.token.clone()).send()
        };
        let page = connection.call(connection.read_limit(0), request).await.map_err(|fault| match fault {
            Fault::Absent => StoreError::Refused {
                backend: connection.name().clone(),
                message: format!("bucket {bucket:?} does not exist"),
            },
            fault => self.error(fault),
        })?;
        let stored = page.contents().iter().filter_map(|object| {
            let digest = layout.digest_of(self.form().plain_name(object.key()?)?)?;
            let ours = self.is_whole(&digest, object.size()) && layout.bucket_of(&digest) == *bucket;
            ours.then(|| Stored { digest, since: timestamp(object.last_modified()) })
        });
        let stored = stored.collect();
        walk.token = page.next_continuation_token;
        if walk.token.is_none() {
            walk.buckets.pop();
        }
        Ok(Some((stored, walk)))
    }

    /// Gives up the unfinished uploads of one bucket.
    async fn abandon_in(&self, bucket: &str, before: Timestamp, dry_run: bool) -> Result<u64, StoreError> {
        let (connection, layout) = (self.connection(), &self.0.options.layout);
        let (mut abandoned, mut key_marker, mut id_marker) = (0, None, None);
        loop {
            let request = || {
                let request =
                    connection.client().list_multipart_uploads().bucket(bucket).prefix(layout.root());
                let request = request.set_key_marker(key_marker.clone());
                request.set_upload_id_marker(id_marker.clone()).send()
            };
            let page = connection.call(connection.read_limit(0), request).await;
            let page = page.map_err(|fault| self.error(fault))?;
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                let digest = self.form().plain_name(key).and_then(|name| layout.digest_of(name));
                let ours = digest.is_some_and(|digest| layout.bucket_of(&digest) == bucket);
                if ours && timestamp(upload.initiated()) < before {
                    abandoned += 1;
                    if !dry_run {
                        self.give_up(bucket, key, id).await?;
                    }
                }
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key_marker.is_none() {
                return Ok(abandoned);
            }
        }
    }

    async fn give_up(&self, bucket: &str, key: &str, id: &str) -> Result<(), StoreError> {
        let connection = self.connection();
        let request = connection.client().abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
        match connection.call(connection.write_limit(0), || request.clone().send()).await {
            Ok(_) | Err(Fault::Absent) => Ok(()),
            Err(fault) => Err(self.error(fault)),
        }
    }

    /// Whether an object of this length is the whole of a blob.
    fn is_whole(&self, digest: &Digest, length: Option<i64>) -> bool {
        let length = length.and_then(|length| u64::try_from(length).ok());
        length.is_some_and(|length| self.form().fits(digest, length))
    }

    pub(super) async fn look(&self, digest: Digest) -> Result<Option<Stored>, StoreError> {
        let (place, client) = (self.place(&digest), self.connection().client());
        let request = || client.head_object().bucket(&place.bucket).key(&place.key).send();
        match self.connection().call(self.connection().read_limit(0), request).await {
            Ok(answer) if self.is_whole(&digest, answer.content_length()) => {
                Ok(Some(Stored { digest, since: timestamp(answer.last_modified()) }))
            }
            Ok(_) => Ok(None),
            Err(Fault::Absent) => match self.not_found(&digest, &place).await {
                StoreError::NotFound(_) => Ok(None),
                error => Err(error),
            },
            Err(fault) => Err(self.error(fault)),
        }
    }
}

/// A service that says no time is taken to have stored the object just now.
fn timestamp(time: Option<&DateTime>) -> Timestamp {
    time.map_or(Timestamp(i64::MAX), |time| {
        Timestamp::from_parts(time.secs(), i32::try_from(time.subsec_nanos()).unwrap_or(0))
    })
}

#[async_trait]
impl Inventory for S3 {
    fn list(&self) -> Pages<'_> {
        let walk = stream::once(async move { self.walk() });
        Box::pin(walk.map_ok(move |walk| stream::try_unfold(walk, move |walk| self.page(walk))).try_flatten())
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        let looks = digests.iter().copied().map(|digest| self.look(digest));
        stream::iter(looks)
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await
    }

    async fn abandon(&self, before: Timestamp, dry_run: bool) -> Result<u64, StoreError> {
        let mut abandoned = 0;
        for bucket in self.walk()?.buckets {
            match self.abandon_in(&bucket, before, dry_run).await {
                Ok(in_bucket) => abandoned += in_bucket,
                // A service or a policy that does not let us: a rule of the bucket can do the same.
                Err(error @ StoreError::Refused { .. }) => {
                    tracing::warn!(bucket, %error, "unfinished uploads can't be looked for");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(abandoned)
    }
}
