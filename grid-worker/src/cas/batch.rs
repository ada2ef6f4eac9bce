//! Small blobs, many in a call, compressed where that is asked for and offered.
//!
//! A batch that the server refuses is split by what the server allows now: it may have been replaced by one with
//! smaller limits. Answers are checked against their digests here, for they are whole in memory. Neighbours: `plan`
//! says what fits into a call, `stream` carries what fits into none.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;
use grid_proto::reapi::batch_read_blobs_response::Response;
use tonic::{Code, Status};

use super::client::{Capabilities, Cas, MESSAGE_LIMIT, ZSTD, from_wire, to_wire};
use super::plan::{Plan, plan};
use crate::error::WorkerError;

/// Smaller blobs aren't worth to be compressed.
const COMPRESS_FROM: usize = 1 << 10;

impl Cas {
    /// Reads blobs that fit into one batch; every content is what its digest says.
    ///
    /// # Errors
    /// [`WorkerError::Missing`] with all that are not there, [`WorkerError::Corrupt`], [`WorkerError::Remote`].
    pub async fn read_batch(&self, digests: &[Digest]) -> Result<HashMap<Digest, Bytes>, WorkerError> {
        let found = HashMap::with_capacity(digests.len());
        self.read_batch_to(digests, found, |found, digest, content| {
            found.insert(digest, content);
            Ok(())
        })
        .await
    }

    /// As [`Cas::read_batch`]; hands each content with `to` to `take` as soon as it is checked, in a thread that may
    /// block, and gives `to` back.
    ///
    /// # Errors
    /// Those of `take` too.
    pub async fn read_batch_to<T: Send + 'static>(
        &self,
        digests: &[Digest],
        to: T,
        take: fn(&mut T, Digest, Bytes) -> Result<(), WorkerError>,
    ) -> Result<T, WorkerError> {
        let Some(function) = digests.first().map(Digest::function) else { return Ok(to) };
        let known = self.capabilities().await?;
        let answers = match self.read_together(function, digests).await {
            Ok(answers) => answers,
            Err(refused) => {
                let plan = self.replan(digests, known, refused).await?;
                self.read_apart(function, plan).await?
            }
        };
        let mut lacking: HashSet<Digest> = digests.iter().copied().collect();
        let taken = tokio::task::spawn_blocking(move || {
            let mut to = to;
            for answer in answers {
                if let Some((digest, content)) = check(function, answer)?
                    && lacking.remove(&digest)
                {
                    take(&mut to, digest, content)?;
                }
            }
            // What the server leaves out of its answer it has not got either.
            if lacking.is_empty() { Ok(to) } else { Err(WorkerError::Missing(lacking.into_iter().collect())) }
        });
        taken.await.map_err(|error| WorkerError::Internal(error.to_string()))?
    }

    async fn read_together(
        &self,
        function: DigestFunction,
        digests: &[Digest],
    ) -> Result<Vec<Response>, WorkerError> {
        let zstd = self.shared.compress && self.capabilities().await?.zstd;
        let _permit = self.permit().await?;
        let request = reapi::BatchReadBlobsRequest {
            instance_name: self.shared.instance.as_str().to_owned(),
            digests: digests.iter().map(to_wire).collect(),
            acceptable_compressors: if zstd { vec![ZSTD] } else { Vec::new() },
            digest_function: function.to_wire(),
        };
        self.shared
            .retry
            .run("BatchReadBlobs", || {
                let (mut client, request) = (self.storage(), request.clone());
                async move { settle(client.batch_read_blobs(request).await?.into_inner()) }
            })
            .await
            .map_err(|status| WorkerError::remote("BatchReadBlobs", status))
    }

    async fn read_apart(&self, function: DigestFunction, plan: Plan) -> Result<Vec<Response>, WorkerError> {
        let mut answers = Vec::new();
        for batch in plan.batches {
            answers.extend(self.read_together(function, &batch).await?);
        }
        for digest in plan.streams {
            match self.read_whole(&digest).await {
                Ok(data) => {
                    answers.push(Response { digest: Some(to_wire(&digest)), data, ..Response::default() });
                }
                // Said of the whole batch, with all that are not there.
                Err(WorkerError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// Uploads blobs that fit into one batch.
    ///
    /// # Errors
    /// [`WorkerError::Remote`].
    pub async fn write_batch(&self, blobs: &[(Digest, Bytes)]) -> Result<(), WorkerError> {
        let known = self.capabilities().await?;
        let Err(refused) = self.write_together(blobs.to_vec()).await else { return Ok(()) };
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let plan = self.replan(&digests, known, refused).await?;
        let contents: HashMap<Digest, Bytes> = blobs.iter().cloned().collect();
        let content = |digest: &Digest| contents.get(digest).cloned().unwrap_or_default();
        for batch in plan.batches {
            self.write_together(batch.iter().map(|digest| (*digest, content(digest))).collect()).await?;
        }
        for digest in plan.streams {
            self.write_stream(&digest, || Ok(Cursor::new(content(&digest)))).await?;
        }
        Ok(())
    }

    async fn write_together(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), WorkerError> {
        let Some(function) = blobs.first().map(|(digest, _)| digest.function()) else { return Ok(()) };
        let zstd = self.shared.compress && self.capabilities().await?.zstd_updates;
        let packing = tokio::task::spawn_blocking(move || {
            let request = |(digest, content): &(Digest, Bytes)| {
                let (data, compressor) = pack(content, zstd);
                reapi::batch_update_blobs_request::Request { digest: Some(to_wire(digest)), data, compressor }
            };
            blobs.iter().map(request).collect()
        });
        let requests = packing.await.map_err(|error| WorkerError::Internal(error.to_string()))?;
        let _permit = self.permit().await?;
        let request = reapi::BatchUpdateBlobsRequest {
            instance_name: self.shared.instance.as_str().to_owned(),
            requests,
            digest_function: function.to_wire(),
        };
        self.shared
            .retry
            .run("BatchUpdateBlobs", || {
                let (mut client, request) = (self.storage(), request.clone());
                async move {
                    let answer = client.batch_update_blobs(request).await?.into_inner();
                    let failed = answer.responses.into_iter().filter_map(|r| r.status).find(|s| s.code != 0);
                    failed.map_or(Ok(()), |s| Err(Status::new(Code::from_i32(s.code), s.message)))
                }
            })
            .await
            .map_err(|status| WorkerError::remote("BatchUpdateBlobs", status))
    }

    /// How `digests` travel after a batch of them was refused.
    ///
    /// # Errors
    /// The refusal, where it is about something else than what the server can do.
    async fn replan(
        &self,
        digests: &[Digest],
        known: Capabilities,
        refused: WorkerError,
    ) -> Result<Plan, WorkerError> {
        if !is_about_limits(&refused) {
            return Err(refused);
        }
        let now = self.relearn().await?;
        let plan = plan(digests.iter().copied(), now.batch_limit);
        let same_size = plan.streams.is_empty() && plan.batches.len() <= 1;
        if same_size && (known.zstd, known.zstd_updates) == (now.zstd, now.zstd_updates) {
            return Err(refused);
        }
        tracing::info!(limit = now.batch_limit, %refused, "the server's limits are others than before");
        Ok(plan)
    }
}

/// Whether a call may have been refused for its size or its compression: as REAPI has it, or as gRPC libraries do that
/// find a message too large.
fn is_about_limits(error: &WorkerError) -> bool {
    let code = match error {
        WorkerError::Remote { status, .. } => status.code(),
        _ => return false,
    };
    matches!(code, Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted)
}

/// Turns a batch in which a blob failed for a passing reason into a failure that is repeated.
fn settle(answer: reapi::BatchReadBlobsResponse) -> Result<Vec<Response>, Status> {
    for response in &answer.responses {
        if let Some(status) = response.status.as_ref().filter(|s| s.code != 0) {
            let code = Code::from_i32(status.code);
            if code != Code::NotFound {
                return Err(Status::new(code, status.message.clone()));
            }
        }
    }
    Ok(answer.responses)
}

/// The content of an answer, which is what its digest says; `None` where there is none.
fn check(function: DigestFunction, answer: Response) -> Result<Option<(Digest, Bytes)>, WorkerError> {
    if answer.status.is_some_and(|s| s.code != 0) {
        return Ok(None);
    }
    let digest = from_wire(function, &answer.digest.unwrap_or_default())?;
    let content = if answer.compressor == ZSTD {
        // Never more than the digest says, whatever the content claims of itself.
        let most = usize::try_from(digest.size()).unwrap_or(usize::MAX).min(MESSAGE_LIMIT);
        let unpacked = zstd::bulk::decompress(&answer.data, most).map_err(|error| {
            WorkerError::remote("BatchReadBlobs", Status::data_loss(format!("blob {digest}: {error}")))
        })?;
        Bytes::from(unpacked)
    } else {
        answer.data
    };
    let found = Digest::of(function, &content);
    if found == digest { Ok(Some((digest, content))) } else { Err(WorkerError::corrupt(digest, found)) }
}

/// What a batch carries of a blob: compressed where that makes it smaller.
fn pack(content: &Bytes, zstd: bool) -> (Bytes, i32) {
    let packed = (zstd && content.len() >= COMPRESS_FROM)
        .then(|| zstd::bulk::compress(content, zstd::DEFAULT_COMPRESSION_LEVEL).ok())
        .flatten();
    match packed {
        Some(packed) if packed.len() < content.len() => (packed.into(), ZSTD),
        _ => (content.clone(), 0),
    }
}
