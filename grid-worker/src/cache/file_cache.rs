//! [`FileCache`]: the cached files on disk, fetched once however many actions want them.
//!
//! Files lie in 256 directories, and what is there with the size that its name says is whole, also after a crash: what
//! comes in a stream is written under `partial/`, checked, and renamed; what is at hand whole is checked before. Neighbours: `index` decides what stays, `cas`
//! fetches, `stage` places.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use grid_core::Digest;
use parking_lot::Mutex;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, open, renameat, statat, unlinkat};
use rustix::io::Errno;
use tokio::sync::watch;

use super::index::{Index, footprint};
use super::key::FileKey;
use super::partial::Partial;
use super::pins::{Claim, Pins};
use super::place::{self, Placement};
use super::recheck::{self, Boot};
use crate::cas::Cas;
use crate::cas::plan::plan;
use crate::error::WorkerError;

/// Fetches under way at once for one action.
const PARALLEL_FETCHES: usize = 8;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A bounded cache of input files in a directory of its own.
#[derive(Debug)]
pub struct FileCache {
    root: PathBuf,
    pub(super) shards: Vec<OwnedFd>,
    pub(super) partial: OwnedFd,
    placement: Placement,
    capacity: u64,
    pub(super) state: Mutex<State>,
    names: AtomicU64,
    cas: Cas,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    /// Files that somebody fetches; the channel closes when that ended, well or not.
    pub(super) in_flight: HashMap<FileKey, watch::Receiver<()>>,
}

impl FileCache {
    /// Opens the cache in `root`, made where it is missing, and takes over the files that are there.
    ///
    /// # Errors
    /// Where the directory can't be made or read.
    pub fn open(root: &Path, capacity: u64, placement: Placement, cas: Cas) -> std::io::Result<Self> {
        let make = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(root)?;
        std::fs::set_permissions(root, PermissionsExt::from_mode(0o700))?;
        let partial = root.join("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial)?;
        }
        make(&partial)?;
        let boot = Boot::of(root);
        let mut index = Index::new(capacity);
        let mut shards = Vec::with_capacity(256);
        for number in 0..256 {
            let shard = root.join(format!("files/{number:02x}"));
            make(&shard)?;
            let directory = open(&shard, DIRECTORY, Mode::empty())?;
            take_over(&shard, &directory, boot.is_same, number, &mut index)?;
            shards.push(directory);
        }
        boot.note(root)?;
        let partial = open(&partial, DIRECTORY, Mode::empty())?;
        let cache = Self {
            root: root.to_owned(),
            shards,
            partial,
            placement,
            capacity,
            state: Mutex::new(State { index, in_flight: HashMap::new() }),
            names: AtomicU64::new(0),
            cas,
        };
        cache.trim(&mut cache.state.lock());
        Ok(cache)
    }

    /// Where the cache is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes and number of the cached files.
    #[must_use]
    pub fn usage(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.index.bytes(), state.index.len())
    }

    /// Gives up files that nobody uses, `bytes` of them where there are so many. Blocking.
    pub fn give_up(&self, bytes: u64) {
        let mut state = self.state.lock();
        let most = state.index.bytes().saturating_sub(bytes);
        let keys = state.index.shrink(most);
        self.remove(&keys);
    }

    /// Has all of `keys` in the cache, and keeps them there until the result is dropped; one that occurs twice is
    /// pinned twice. Keys of empty files need no place in it and are skipped.
    ///
    /// # Errors
    /// [`WorkerError::Missing`] with all that the CAS lacks, and the other errors of fetching and of the disk.
    pub async fn acquire(self: &Arc<Self>, keys: Vec<FileKey>) -> Result<Pins, WorkerError> {
        let mut wanted = keys;
        wanted.retain(needs_place);
        let needed =
            wanted.iter().collect::<HashSet<_>>().iter().map(|key| footprint(key.digest.size())).sum();
        if needed > self.capacity {
            return Err(WorkerError::TooLarge { needed, capacity: self.capacity });
        }
        let mut pins = Pins { cache: self.clone(), keys: Vec::with_capacity(wanted.len()) };
        loop {
            let (claim, waits) = self.claim(&mut wanted, &mut pins);
            if let Some(claim) = claim {
                self.fetch(&claim.keys).await?;
            }
            if wanted.is_empty() {
                return Ok(pins);
            }
            // Nothing is claimed while waiting, so no two can wait for each other.
            for mut wait in waits {
                let _ = wait.changed().await;
            }
        }
    }

    /// Pins what is here, claims what nobody fetches, and gives what to wait for; `wanted` keeps what isn't
    /// pinned.
    fn claim<'a>(
        &'a self,
        wanted: &mut Vec<FileKey>,
        pins: &mut Pins,
    ) -> (Option<Claim<'a>>, Vec<watch::Receiver<()>>) {
        let (done, receiver) = watch::channel(());
        let (mut claimed, mut waits) = (Vec::new(), Vec::new());
        let mut state = self.state.lock();
        wanted.retain(|key| {
            if state.index.pin(key) {
                pins.keys.push(*key);
                return false;
            }
            match state.in_flight.get(key) {
                Some(wait) => waits.push(wait.clone()),
                None => {
                    state.in_flight.insert(*key, receiver.clone());
                    claimed.push(*key);
                }
            }
            true
        });
        let claim = (!claimed.is_empty()).then(|| Claim { cache: self, keys: claimed, _done: done });
        (claim, waits)
    }

    /// Brings claimed files into the cache, unused: whoever claimed them pins them next. The space is made when
    /// they are pinned, for to be evicted in between would only cost a second fetch.
    async fn fetch(self: &Arc<Self>, keys: &[FileKey]) -> Result<(), WorkerError> {
        let mut by_digest: HashMap<Digest, Vec<FileKey>> = HashMap::new();
        for key in keys {
            by_digest.entry(key.digest).or_default().push(*key);
        }
        let limit = self.cas.capabilities().await?.batch_limit;
        let plan = plan(by_digest.keys().copied(), limit);
        let by_digest = &by_digest;
        let mut fetches: Vec<BoxFuture<'_, _>> = Vec::new();
        fetches.extend(plan.batches.into_iter().map(|batch| self.fetch_batch(batch, by_digest).boxed()));
        fetches.extend(plan.streams.into_iter().map(|digest| self.fetch_stream(digest, by_digest).boxed()));
        let mut results = stream::iter(fetches).buffer_unordered(PARALLEL_FETCHES);
        let mut missing = Vec::new();
        while let Some(result) = results.next().await {
            match result {
                Err(WorkerError::Missing(digests)) => missing.extend(digests),
                other => other?,
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(WorkerError::Missing(missing)) }
    }

    async fn fetch_batch(
        self: &Arc<Self>,
        batch: Vec<Digest>,
        keys: &HashMap<Digest, Vec<FileKey>>,
    ) -> Result<(), WorkerError> {
        let files: HashMap<Digest, Vec<FileKey>> =
            batch.iter().filter_map(|digest| Some((*digest, keys.get(digest)?.clone()))).collect();
        let stored =
            self.cas.read_batch_to(&batch, (self.clone(), files), |(cache, files), digest, content| {
                let mut keys = files.get(&digest).into_iter().flatten();
                let stored = keys.try_for_each(|key| cache.store(key, &content));
                stored.map_err(|error| WorkerError::local("writing to the cache", error))
            });
        stored.await.map(|_| ())
    }

    /// Writes a file whose content is at hand and was checked. It gets its place at once: a write that breaks off
    /// leaves less than the key says, and that is never taken for the file.
    fn store(&self, key: &FileKey, content: &[u8]) -> std::io::Result<()> {
        let (shard, name) = (&self.shards[key.shard()], key.file_name());
        let create = || place::create(shard, name.as_ref(), key.mode());
        let mut file = std::fs::File::from(match create() {
            // Of a file that the index has forgotten.
            Err(Errno::EXIST) => {
                unlinkat(shard, &name, AtFlags::empty())?;
                create()?
            }
            created => created?,
        });
        let written = file.write_all(content);
        if let Err(error) = written.and_then(|()| Ok(place::set_time(&file, key)?)) {
            let _ = unlinkat(shard, &name, AtFlags::empty());
            return Err(error);
        }
        drop(file);
        self.state.lock().index.insert(*key, 0);
        Ok(())
    }

    async fn fetch_stream(
        self: &Arc<Self>,
        digest: Digest,
        keys: &HashMap<Digest, Vec<FileKey>>,
    ) -> Result<(), WorkerError> {
        for key in keys.get(&digest).into_iter().flatten() {
            let partial = self.cas.read_stream(&digest, || Partial::create(self.clone(), key.mode())).await?;
            self.keep(partial, key).map_err(|error| WorkerError::local("writing to the cache", error))?;
        }
        Ok(())
    }

    /// Puts a pinned file into `directory`.
    ///
    /// # Errors
    /// Where the disk fails, or the cached file is gone.
    pub fn place(&self, key: &FileKey, directory: impl AsFd, name: &OsStr) -> std::io::Result<()> {
        if key.digest.size() == 0 {
            // Its own inode each time: file systems bound the links of one, and every tree has empty files.
            return Ok(place::set_time(&place::create(directory, name, key.mode())?, key)?);
        }
        let cached = key.file_name();
        let shard = &self.shards[key.shard()];
        let placed = match self.placement {
            Placement::Copy => place::copy(shard, &cached, &directory, name, key),
            Placement::Link => match place::link(shard, &cached, &directory, name) {
                Err(Errno::MLINK) => self.renew(key, &cached, &directory, name),
                other => other.map_err(Into::into),
            },
        };
        if placed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            // Somebody else removed it: the next action fetches it again.
            self.state.lock().index.remove(key);
        }
        placed
    }

    /// Whether `stat` is of a regular file that [`FileCache::place`] has linked for `key`.
    pub(crate) fn is_placed(&self, key: &FileKey, stat: &Stat) -> bool {
        if key.digest.size() == 0 {
            return place::is_empty_input(stat, key);
        }
        let cached = statat(&self.shards[key.shard()], key.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        cached.is_ok_and(|cached| (cached.st_dev, cached.st_ino) == (stat.st_dev, stat.st_ino))
    }

    /// Whether files are linked, so that a command can't change those of a tree.
    #[must_use]
    pub fn links(&self) -> bool {
        self.placement == Placement::Link
    }

    /// Whether more is kept than there is room for, because it is pinned.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.lock().index.bytes() > self.capacity
    }

    /// An inode has all the links that it can have: its place in the cache goes to a new one.
    fn renew(&self, key: &FileKey, cached: &str, directory: impl AsFd, name: &OsStr) -> std::io::Result<()> {
        let fresh = self.next_name();
        place::copy(&self.shards[key.shard()], cached, &self.partial, fresh.as_ref(), key)?;
        place::link(&self.partial, &fresh, directory, name)?;
        Ok(renameat(&self.partial, &fresh, &self.shards[key.shard()], cached)?)
    }

    pub(super) fn any(&self, place: usize) -> Option<FileKey> {
        self.state.lock().index.at(place)
    }

    /// Forgets a file, also where actions use it: what they have of it stays theirs.
    pub(super) fn drop_file(&self, key: &FileKey) {
        let mut state = self.state.lock();
        state.index.remove(key);
        self.remove(&[*key]);
    }

    pub(super) fn next_name(&self) -> String {
        self.names.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Makes a written file one of the cache's.
    fn keep(&self, partial: Partial, key: &FileKey) -> std::io::Result<()> {
        partial.keep(key)?;
        self.state.lock().index.insert(*key, 0);
        Ok(())
    }

    /// Removes what the index gives up. Under the lock, for a file that is fetched again must not be removed
    /// after it came back.
    pub(super) fn trim(&self, state: &mut State) {
        let keys = state.index.evict();
        self.remove(&keys);
    }

    fn remove(&self, keys: &[FileKey]) {
        for key in keys {
            let removed = unlinkat(&self.shards[key.shard()], key.file_name(), AtFlags::empty());
            if let Err(error) = removed {
                tracing::warn!(%error, file = key.file_name(), "can't remove a file of the cache");
            }
        }
    }
}

/// Empty files are made in each tree.
pub(super) fn needs_place(key: &FileKey) -> bool {
    key.digest.size() > 0
}

/// Takes the files of a directory into the index; what is none of the cache's, or has not its size, or, unless
/// it is `trusted`, not its content, goes.
fn take_over(
    shard: &Path,
    directory: &OwnedFd,
    trusted: bool,
    number: usize,
    index: &mut Index,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(shard)? {
        let entry = entry?;
        let key = entry.file_name().to_str().and_then(FileKey::parse).filter(|key| key.shard() == number);
        let metadata = entry.metadata()?;
        let sound = |key: &FileKey| {
            metadata.is_file()
                && metadata.size() == key.digest.size()
                && metadata.mode() & 0o7777 == key.mode()
                && (trusted || recheck::is_sound(directory, key).unwrap_or(false))
        };
        match key.filter(sound) {
            Some(key) => index.insert(key, 0),
            None => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
