//! Large blobs in chunks: `GetChunkMapping`, `RegisterChunkMapping`, and the unary forms of REAPI 2.12.
//!
//! The server cuts: a mapping is made from the blob by `FastCDC` 2020 whenever it is asked for, its chunks are
//! stored, and each replica remembers the mappings that it made. A registered mapping becomes a blob of its own,
//! checked by the store like any other; how its client cut it is forgotten, so that all replicas give the same chunks
//! of it at any time (REAPI, `GetChunkMappingRequest.chunking_function`: the server may answer with another cut than
//! the one asked for). An instance that takes no writes makes no chunks: there a blob is its own only one. All of it
//! streams; nothing holds a blob.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_cas::{ByteRange, ByteStream, SharedStore, StoreError};
use grid_core::{Digest, DigestFunction, Step};
use grid_proto::reapi::chunking_function::Value as ChunkingFunction;
use grid_proto::reapi::{self, GetChunkMappingResponse};
use moka::future::Cache;
use tonic::Status;

use super::CasInstance;
use super::fastcdc::{Chunker, Parameters};
use crate::RpcError;
use crate::digests::{Reader, to_wire};
use crate::error::{status, to_status};
use crate::steps::timed;

/// The chunking function that the server cuts with.
pub(super) const FUNCTION: i32 = ChunkingFunction::FastCdc2020 as i32;

/// Chunk digests in one message: about 1 MiB of them at most.
const PAGE: usize = 8_000;

/// How many bytes of chunks are gathered before they are stored together.
const BATCH: usize = 4 << 20;

/// How an instance chunks.
#[derive(Clone, Copy, Debug)]
pub struct ChunkingOptions {
    /// Bytes in a chunk on average.
    pub avg_chunk_bytes: usize,
    /// The seed of the gear table.
    pub seed: u32,
    /// How many chunk digests a replica remembers.
    pub remembered_chunks: u64,
    /// The most chunks that one blob may be spliced from.
    pub max_chunks: usize,
}

impl Default for ChunkingOptions {
    fn default() -> Self {
        Self { avg_chunk_bytes: 512 << 10, seed: 0, remembered_chunks: 200_000, max_chunks: 1_000_000 }
    }
}

/// Splitting and splicing in an instance.
#[derive(Debug)]
pub struct Chunking {
    parameters: Parameters,
    max_chunks: usize,
    mappings: Cache<Digest, Arc<[Digest]>>,
}

impl Chunking {
    /// Chunking with these options.
    #[must_use]
    pub fn new(options: ChunkingOptions) -> Self {
        let weigh = |_: &Digest, chunks: &Arc<[Digest]>| u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let mappings = Cache::builder().max_capacity(options.remembered_chunks).weigher(weigh).build();
        let parameters = Parameters::new(options.avg_chunk_bytes, options.seed);
        Self { parameters, max_chunks: options.max_chunks, mappings }
    }

    /// The parameters as the capabilities tell them.
    #[must_use]
    pub const fn parameters(&self) -> Parameters {
        self.parameters
    }
}

fn chunking(instance: &CasInstance) -> Result<&Chunking, Status> {
    let off = || RpcError::Unimplemented("this instance does not split or splice blobs".into());
    instance.chunking.as_deref().ok_or_else(|| status(off()))
}

/// The chunks of a blob, all of them stored.
pub(super) async fn split(
    instance: &CasInstance,
    function: i32,
    blob: Option<&reapi::Digest>,
) -> Result<Arc<[Digest]>, Status> {
    let chunking = chunking(instance)?;
    let reader = Reader::new(function, &instance.functions).map_err(status)?;
    let blob = reader.required("blob_digest", blob).map_err(status)?;
    if let Some(chunks) = chunking.mappings.get(&blob).await {
        let mut needed = chunks.to_vec();
        needed.push(blob);
        if instance.store.find_missing(&needed).await.map_err(status)?.is_empty() {
            return Ok(chunks);
        }
        chunking.mappings.invalidate(&blob).await;
    }
    let small = blob.is_empty_blob() || blob.size() < chunking.parameters.max as u64;
    if small || instance.read_only {
        let missing = instance.store.find_missing(&[blob]).await.map_err(status)?;
        return match missing.first() {
            Some(missing) => Err(status(StoreError::NotFound(*missing))),
            None => Ok([blob].into()),
        };
    }
    // Who asks while it is being cut waits for that.
    let cutting = cut(&instance.store, chunking.parameters, &blob);
    chunking.mappings.try_get_with(blob, cutting).await.map_err(|error| to_status(&*error))
}

async fn cut(
    store: &SharedStore,
    parameters: Parameters,
    blob: &Digest,
) -> Result<Arc<[Digest]>, StoreError> {
    let mut content = store.read(blob, ByteRange::default()).await?;
    let mut chunker = Chunker::new(parameters);
    let mut cutting =
        Cutting { store, function: blob.function(), digests: Vec::new(), batch: Vec::new(), bytes: 0 };
    while let Some(piece) = content.try_next().await? {
        cutting.add(chunker.push(&piece)).await?;
    }
    cutting.add(chunker.finish()).await?;
    cutting.flush().await?;
    Ok(cutting.digests.into())
}

struct Cutting<'a> {
    store: &'a SharedStore,
    function: DigestFunction,
    digests: Vec<Digest>,
    batch: Vec<(Digest, Bytes)>,
    bytes: usize,
}

impl Cutting<'_> {
    async fn add(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        for chunk in chunks {
            let digest = Digest::of(self.function, &chunk);
            self.digests.push(digest);
            self.bytes += chunk.len();
            self.batch.push((digest, chunk));
            if self.bytes >= BATCH {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.store.write_batch(batch).await.into_iter().collect()
    }
}

/// A mapping as messages.
pub(super) fn pages(
    chunks: Arc<[Digest]>,
) -> impl futures::Stream<Item = Result<GetChunkMappingResponse, Status>> + Send {
    let mut at = 0;
    stream::iter(std::iter::from_fn(move || {
        let end = (at + PAGE).min(chunks.len());
        let chunk_digests: Vec<_> = chunks[at..end].iter().map(to_wire).collect();
        let chunking_function = if at == 0 { FUNCTION } else { 0 };
        at = end;
        (!chunk_digests.is_empty())
            .then_some(Ok(GetChunkMappingResponse { chunk_digests, chunking_function }))
    }))
}

/// A blob that is being made from chunks.
pub(super) struct Splice<'a> {
    instance: &'a CasInstance,
    chunking: &'a Chunking,
    blob: Digest,
    chunks: Vec<Digest>,
    size: u64,
}

impl<'a> Splice<'a> {
    pub(super) fn new(
        instance: &'a CasInstance,
        reader: &Reader<'_>,
        blob: Option<&reapi::Digest>,
    ) -> Result<Self, Status> {
        let chunking = chunking(instance)?;
        let blob = reader.required("blob_digest", blob).map_err(status)?;
        if instance.read_only {
            return Err(status(StoreError::ReadOnly));
        }
        if let Some(limit) = instance.max_blob_bytes.filter(|limit| blob.size() > *limit) {
            return Err(status(StoreError::TooLarge { digest: blob, limit, backend: "instance".into() }));
        }
        Ok(Self { instance, chunking, blob, chunks: Vec::new(), size: 0 })
    }

    /// Adds chunks at the end.
    pub(super) fn add(&mut self, reader: &Reader<'_>, chunks: &[reapi::Digest]) -> Result<(), Status> {
        for chunk in chunks {
            let chunk = reader.read("chunk_digests", chunk).map_err(status)?;
            if chunk.function() != self.blob.function() {
                return Err(status(RpcError::field(
                    "chunk_digests",
                    "use another digest function than the blob",
                )));
            }
            self.size = self.size.saturating_add(chunk.size());
            self.chunks.push(chunk);
        }
        if self.chunks.len() > self.chunking.max_chunks {
            let problem = format!("are more than {}", self.chunking.max_chunks);
            return Err(status(RpcError::field("chunk_digests", problem)));
        }
        Ok(())
    }

    /// Stores the blob, unless it is there.
    pub(super) async fn commit(self) -> Result<Digest, Status> {
        let store = &self.instance.store;
        if store.find_missing(&[self.blob]).await.map_err(status)?.is_empty() {
            return Ok(self.blob);
        }
        if self.size != self.blob.size() {
            return Err(status(StoreError::SizeMismatch { expected: self.blob, actual: self.size }));
        }
        if let Some(missing) = store.find_missing(&self.chunks).await.map_err(status)?.first() {
            return Err(status(StoreError::NotFound(*missing)));
        }
        let content = concatenate(Arc::clone(store), self.chunks);
        // The store reads the chunks for it, and checks that they make this blob.
        let verify = async { store.write(&self.blob, content).await.map_err(status) };
        timed(Step::SpliceVerify, verify).await?;
        Ok(self.blob)
    }
}

fn concatenate(store: SharedStore, chunks: Vec<Digest>) -> ByteStream {
    Box::pin(
        stream::iter(chunks)
            .then(move |chunk| {
                let store = Arc::clone(&store);
                async move { store.read(&chunk, ByteRange::default()).await }
            })
            .try_flatten(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use grid_cas::BlobStore;
    use grid_cas::backends::lru::{Lru, LruOptions};
    use grid_cas::observer::unobserved;

    use super::*;
    use crate::cas::tree::TreeLimits;
    use crate::digests::all_functions;

    /// Counts how often a blob is read as a stream.
    #[derive(Debug)]
    struct Counted {
        inner: Lru,
        reads: AtomicUsize,
    }

    #[async_trait::async_trait]
    impl BlobStore for Counted {
        async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
            self.inner.find_missing(digests).await
        }

        async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            // Whoever else asks has the time to come in between.
            tokio::task::yield_now().await;
            self.inner.read(digest, range).await
        }

        async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
            self.inner.write(digest, content).await
        }

        async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
            self.inner.read_batch(digests).await
        }

        async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
            self.inner.write_batch(blobs).await
        }

        async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
            self.inner.delete(digests).await
        }

        async fn probe(&self) -> Result<(), StoreError> {
            self.inner.probe().await
        }
    }

    #[tokio::test]
    async fn a_blob_is_cut_once_for_all_that_ask_at_once() {
        let inner = Lru::new(LruOptions { size: 1 << 30, name: "lru".into(), observer: unobserved() });
        let store = Arc::new(Counted { inner, reads: AtomicUsize::new(0) });
        let content = Bytes::from(vec![7; 300_000]);
        let blob = Digest::of(DigestFunction::Sha256, &content);
        store.write_batch(vec![(blob, content)]).await.remove(0).unwrap();
        let options = ChunkingOptions { avg_chunk_bytes: 16 << 10, ..ChunkingOptions::default() };
        let instance = CasInstance {
            store: Arc::clone(&store) as _,
            read_only: false,
            functions: all_functions(),
            max_batch_bytes: 1 << 20,
            max_blob_bytes: None,
            tree: TreeLimits::default(),
            chunking: Some(Arc::new(Chunking::new(options))),
        };
        let wire = to_wire(&blob);
        let all = futures::future::join_all((0..5).map(|_| split(&instance, 0, Some(&wire)))).await;
        let chunks: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert!(chunks.iter().all(|found| *found == chunks[0] && found.len() > 1));
        assert_eq!(store.reads.load(Ordering::SeqCst), 1);
    }
}
