//! `!redis-storage`: blobs as values in Redis, under BuildGrid's keys, without an expiry.
//!
//! What was acknowledged is as durable as the server is configured to make it. A large blob goes in piece by piece under
//! a name of its own, and gets its key at its clean end: there is no torn one. A value in Redis has 512 MiB at most, and
//! so has a blob here: larger ones are refused (`!size-differentiated-storage` puts them elsewhere).

mod listing;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use grid_core::Digest;

use crate::content::{self, DigestMap, DigestSet, PIECE, is_empty_blob};
use crate::form::Form;
use crate::groups::within;
use crate::redis_client::{RedisConnection, keys};
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// The largest value of Redis, in bytes.
const LIMIT: u64 = 512 * 1024 * 1024;
/// How many bytes of blobs one command or pipeline carries.
const BATCH: u64 = 4 * 1024 * 1024;
/// How many keys one command or pipeline names.
const KEYS: usize = 1_000;

/// Blobs in Redis.
#[derive(Clone, Debug)]
pub struct Redis {
    connection: Arc<RedisConnection>,
    form: Form,
}

impl Redis {
    /// The storage behind `connection`.
    #[must_use]
    pub fn new(connection: Arc<RedisConnection>) -> Self {
        Self { connection, form: Form::Plain }
    }

    /// The same with its blobs in this form.
    #[must_use]
    pub fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    fn key(&self, digest: &Digest) -> String {
        self.form.name(keys::of_blob(digest))
    }

    /// The sizes of the values of these keys; 0 for those that aren't there.
    async fn sizes(&self, digests: &[Digest]) -> Result<Vec<u64>, StoreError> {
        let mut sizes = Vec::with_capacity(digests.len());
        for part in digests.chunks(KEYS) {
            let mut pipeline = redis::pipe();
            for digest in part {
                pipeline.strlen(self.key(digest));
            }
            sizes.extend(self.connection.pipeline::<Vec<u64>>(&pipeline).await?);
        }
        Ok(sizes)
    }

    /// Whether a value has its blob's size.
    fn checked(&self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        match size {
            0 => Err(StoreError::NotFound(*digest)),
            size if self.form.fits(digest, size) => Ok(()),
            _ => Err(self.corrupt(digest)),
        }
    }

    fn corrupt(&self, digest: &Digest) -> StoreError {
        StoreError::Corrupt { digest: *digest, backend: Arc::clone(self.connection.name()) }
    }

    fn check_size(&self, digest: &Digest) -> Result<(), StoreError> {
        let backend = Arc::clone(self.connection.name());
        match digest.size() > LIMIT {
            true => Err(StoreError::TooLarge { digest: *digest, limit: LIMIT, backend }),
            false => Ok(()),
        }
    }

    /// The bytes from `start` of a blob, to `end` or as many as a piece has. A value is never seen half-written: if
    /// fewer come, it is gone.
    async fn piece(&self, digest: &Digest, start: u64, end: u64) -> Result<Bytes, StoreError> {
        let end = end.min(start + PIECE as u64);
        let command = redis::Cmd::getrange(
            self.key(digest),
            isize::try_from(start).unwrap_or(isize::MAX),
            isize::try_from(end - 1).unwrap_or(isize::MAX),
        );
        let piece: Bytes = self.connection.command(&command).await?;
        match piece.len() as u64 == end - start {
            true => Ok(piece),
            false => Err(StoreError::NotFound(*digest)),
        }
    }

    async fn read_group(&self, group: &[Digest]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let keys: Vec<String> = group.iter().map(|digest| self.key(digest)).collect();
        self.connection.command(&redis::Cmd::mget(keys)).await
    }

    async fn write_group(&self, group: &[(Digest, Bytes)]) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for (digest, bytes) in group {
            pipeline.set(self.key(digest), bytes.as_ref()).ignore();
        }
        self.connection.pipeline(&pipeline).await
    }
}

#[async_trait]
impl BlobStore for Redis {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let asked = content::missing_of(digests, |_| false);
        let sizes = self.sizes(&asked).await?;
        let whole = asked.iter().zip(sizes).filter(|(digest, size)| self.form.fits(digest, *size));
        let present: DigestSet = whole.map(|(digest, _)| *digest).collect();
        Ok(content::missing_of(&asked, |digest| present.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (start, end) = content::bounds(digest, range)?;
        if is_empty_blob(digest) {
            return Ok(content::from_bytes(Bytes::new()));
        }
        let size = self.sizes(&[*digest]).await?.first().copied().unwrap_or(0);
        self.checked(digest, size)?;
        let end = if self.form == Form::Plain { end } else { size };
        let state = (self.clone(), *digest, start);
        Ok(Box::pin(stream::try_unfold(state, move |(store, digest, position)| async move {
            if position == end {
                return Ok(None);
            }
            let piece = store.piece(&digest, position, end).await?;
            let position = position + piece.len() as u64;
            Ok(Some((piece, (store, digest, position))))
        })))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) {
            return Ok(());
        }
        self.check_size(digest)?;
        if digest.size() > PIECE as u64 {
            let content = self.form.checked(digest, content);
            return upload::write(&self.connection, &self.key(digest), content).await;
        }
        let bytes = match self.form {
            Form::Plain => content::collect(digest, content).await?,
            Form::Packed => content.try_collect::<Vec<Bytes>>().await?.concat().into(),
        };
        self.write_group(&[(*digest, bytes)]).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let mut answers: DigestMap<Result<Bytes, StoreError>> = DigestMap::default();
        for group in within(content::missing_of(digests, |_| false), BATCH, Digest::size) {
            match self.read_group(&group).await {
                Ok(values) => answers.extend(group.into_iter().zip(values).map(|(digest, value)| {
                    let bytes = value.unwrap_or_default();
                    (digest, self.checked(&digest, bytes.len() as u64).map(|()| bytes))
                })),
                Err(error) => answers.extend(group.into_iter().map(|digest| (digest, Err(error.clone())))),
            }
        }
        let answer = |digest| answers.get(digest).cloned().unwrap_or_else(|| Ok(Bytes::new()));
        digests.iter().map(answer).collect()
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (blobs, wrong) = self.form.sized(blobs);
        let mut answers: DigestMap<Result<(), StoreError>> = DigestMap::default();
        let (small, large): (Vec<_>, Vec<_>) =
            blobs.into_iter().partition(|(digest, _)| digest.size() <= BATCH);
        for (digest, bytes) in large {
            answers.insert(digest, self.write(&digest, content::from_bytes(bytes)).await);
        }
        for group in within(small, BATCH, |(digest, _)| digest.size()) {
            let answer = self.write_group(&group).await;
            answers.extend(group.into_iter().map(|(digest, _)| (digest, answer.clone())));
        }
        content::answers(&digests, &answers, wrong)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let mut answers = Vec::with_capacity(digests.len());
        for part in digests.chunks(KEYS) {
            let keys: Vec<String> = part.iter().map(|digest| self.key(digest)).collect();
            let answer = self.connection.command::<()>(&redis::Cmd::unlink(keys)).await;
            answers.extend(part.iter().map(|_| answer.clone()));
        }
        answers
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.connection.probe().await
    }
}
