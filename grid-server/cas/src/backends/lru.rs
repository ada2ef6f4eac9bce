//! `!lru-storage`: blobs in this process's memory, the least recently used leaving first.
//!
//! What was acknowledged lasts until it is evicted or the process ends: promise nothing more. The limit counts every
//! byte that is held, uploads on their way included; it is kept by evicting, and a write fails for it only where the
//! blob alone is larger, or where unfinished uploads alone fill it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::lru::LruCache;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_core::Digest;
use parking_lot::Mutex;

use crate::content::{self, is_empty_blob};
use crate::observer::{SharedObserver, StoreEvent};
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// Content is held in allocations of at most this many bytes: small blobs in one, whatever the pieces they came in.
const CHUNK: usize = 4 * 1024 * 1024;
/// Enough that threads rarely meet on one lock.
const SHARDS: usize = 32;

/// How an [`Lru`] is made.
#[derive(Clone, Debug)]
pub struct LruOptions {
    /// How many bytes to hold at most (`size`).
    pub size: u64,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
    /// Who is told of evictions.
    pub observer: SharedObserver,
}

/// Blobs in memory.
#[derive(Debug)]
pub struct Lru {
    options: LruOptions,
    shards: Vec<Mutex<Shard>>,
    /// Bytes held and bytes promised to uploads on their way.
    held: AtomicU64,
    /// The time of the last use, counted in uses.
    now: AtomicU64,
}

type Shard = LruCache<Digest, Entry, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Entry {
    chunks: Arc<[Bytes]>,
    used: (u64, Instant),
}

/// Bytes taken from the limit; given back unless they become part of an entry.
struct Reservation<'a> {
    store: &'a Lru,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.store.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Lru {
    /// An empty store.
    #[must_use]
    pub fn new(options: LruOptions) -> Self {
        let shard = || Mutex::new(LruCache::unbounded_with_hasher(foldhash::fast::RandomState::default()));
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self { options, shards, held: AtomicU64::new(0), now: AtomicU64::new(0) }
    }

    /// How many bytes are held, uploads on their way included.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// Any byte of a hash tells the shard; the last ones are what no key layout groups by.
    fn shard(&self, digest: &Digest) -> &Mutex<Shard> {
        let hash = digest.hash_bytes();
        &self.shards[usize::from(hash[hash.len() - 1]) % SHARDS]
    }

    /// The time of a call: a number for the order among calls, and a moment for the age.
    fn tick(&self) -> (u64, Instant) {
        (self.now.fetch_add(1, Ordering::Relaxed), Instant::now())
    }

    fn use_blob(&self, digest: &Digest, now: (u64, Instant)) -> bool {
        self.shard(digest).lock().get_mut(digest).map(|entry| entry.used = now).is_some()
    }

    fn get(&self, digest: &Digest) -> Result<Arc<[Bytes]>, StoreError> {
        if is_empty_blob(digest) {
            return Ok(Arc::from([]));
        }
        let now = self.tick();
        let mut shard = self.shard(digest).lock();
        let entry = shard.get_mut(digest).ok_or(StoreError::NotFound(*digest))?;
        entry.used = now;
        Ok(Arc::clone(&entry.chunks))
    }

    /// Takes `bytes` more from the limit, evicting for them.
    fn reserve(&self, reservation: &mut Reservation<'_>, bytes: u64) -> Result<(), StoreError> {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        reservation.bytes += bytes;
        while self.held() > self.options.size {
            if !self.evict_oldest() {
                return Err(StoreError::Full {
                    backend: Arc::clone(&self.options.name),
                    message: format!("unfinished uploads fill all of its {} bytes", self.options.size),
                });
            }
        }
        Ok(())
    }

    /// Evicts the least recently used blob of all shards; false where there is none.
    fn evict_oldest(&self) -> bool {
        let age = |shard: &Mutex<Shard>| shard.lock().peek_lru().map(|(_, entry)| entry.used);
        let oldest =
            self.shards.iter().filter_map(|shard| Some((age(shard)?, shard))).min_by_key(|(age, _)| *age);
        let Some((_, shard)) = oldest else { return false };
        // Another thread may have taken it meanwhile: then the caller looks again.
        let evicted = shard.lock().pop_lru();
        if let Some((digest, entry)) = evicted {
            self.held.fetch_sub(digest.size(), Ordering::AcqRel);
            let unused_for = entry.used.1.elapsed();
            self.options.observer.event("lru", StoreEvent::Evicted { bytes: digest.size(), unused_for });
        }
        true
    }

    fn insert(&self, digest: &Digest, chunks: Vec<Bytes>, mut reservation: Reservation<'_>) {
        let entry = Entry { chunks: chunks.into(), used: self.tick() };
        // A concurrent writer's entry that this one replaces gives back what this reservation now stands for.
        let replaced = self.shard(digest).lock().push(*digest, entry).is_some();
        if !replaced {
            reservation.bytes = 0;
        }
    }

    fn check_size(&self, digest: &Digest) -> Result<(), StoreError> {
        let (limit, backend) = (self.options.size, &self.options.name);
        if digest.size() > limit {
            return Err(StoreError::TooLarge { digest: *digest, limit, backend: Arc::clone(backend) });
        }
        Ok(())
    }

    fn write_one(&self, digest: &Digest, bytes: &Bytes) -> Result<(), StoreError> {
        if bytes.len() as u64 != digest.size() {
            return Err(StoreError::SizeMismatch { expected: *digest, actual: bytes.len() as u64 });
        }
        if is_empty_blob(digest) || self.use_blob(digest, self.tick()) {
            return Ok(());
        }
        self.check_size(digest)?;
        let mut reservation = Reservation { store: self, bytes: 0 };
        self.reserve(&mut reservation, digest.size())?;
        // Copied: the bytes given are a part of a whole request, which this blob must not keep alive.
        let chunks = bytes.chunks(CHUNK).map(Bytes::copy_from_slice).collect();
        self.insert(digest, chunks, reservation);
        Ok(())
    }
}

#[async_trait]
impl BlobStore for Lru {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let now = self.tick();
        Ok(content::missing_of(digests, |digest| self.use_blob(digest, now)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let chunks = self.get(digest)?;
        let (start, end) = content::bounds(digest, range)?;
        let parts: Vec<ByteStream> = parts(&chunks, start, end).map(content::from_bytes).collect();
        Ok(Box::pin(stream::iter(parts).flatten()))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) || self.use_blob(digest, self.tick()) {
            return Ok(());
        }
        self.check_size(digest)?;
        let mut content = content::exact(*digest, content);
        let mut reservation = Reservation { store: self, bytes: 0 };
        let mut chunks = Chunks::new(digest.size());
        while let Some(piece) = content.try_next().await? {
            self.reserve(&mut reservation, piece.len() as u64)?;
            chunks.push(&piece);
        }
        self.insert(digest, chunks.finish(), reservation);
        Ok(())
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        digests.iter().map(|digest| self.get(digest).map(|chunks| join(&chunks))).collect()
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        blobs.iter().map(|(digest, bytes)| self.write_one(digest, bytes)).collect()
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        for digest in digests {
            if self.shard(digest).lock().pop(digest).is_some() {
                self.held.fetch_sub(digest.size(), Ordering::AcqRel);
            }
        }
        vec![Ok(()); digests.len()]
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The bytes from `start` to `end` of content in chunks, as slices of them.
fn parts(chunks: &[Bytes], start: u64, end: u64) -> impl Iterator<Item = Bytes> {
    let mut position = 0_u64;
    chunks.iter().filter_map(move |chunk| {
        let (first, last) = (position, position + chunk.len() as u64);
        position = last;
        let within = |at: u64| usize::try_from(at.clamp(first, last) - first).unwrap_or(0);
        let part = chunk.slice(within(start)..within(end));
        (!part.is_empty()).then_some(part)
    })
}

fn join(chunks: &[Bytes]) -> Bytes {
    match chunks {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => many.concat().into(),
    }
}

/// Gathers pieces into chunks whose allocations are exactly as large as their content.
struct Chunks {
    full: Vec<Bytes>,
    current: BytesMut,
    left: u64,
}

impl Chunks {
    fn new(size: u64) -> Self {
        Self { full: Vec::new(), current: BytesMut::new(), left: size }
    }

    fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.current.capacity() == 0 {
                let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
                self.current = BytesMut::with_capacity(room);
                self.left -= room as u64;
            }
            let room = self.current.capacity() - self.current.len();
            let (now, later) = piece.split_at(room.min(piece.len()));
            self.current.extend_from_slice(now);
            piece = later;
            if self.current.len() == self.current.capacity() {
                self.full.push(std::mem::take(&mut self.current).freeze());
            }
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.current.is_empty() {
            self.full.push(self.current.freeze());
        }
        self.full
    }
}
