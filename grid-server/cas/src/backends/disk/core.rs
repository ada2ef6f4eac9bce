//! The blocking half of a disk storage: every function here may wait for the disk, and runs on a blocking thread.
//!
//! A file appears by renaming, under the lock of its stripe, together with its entry in the index; it goes under the
//! same lock. So the index never names a file that is not there.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use grid_core::{Clock, Digest, DigestFunction, Timestamp};
use parking_lot::Mutex;
use tempfile::NamedTempFile;

use super::DiskOptions;
use super::index::Index;
use super::layout::{Layout, TEMPORARY};
use crate::StoreError;
use crate::content::is_empty_blob;
use crate::observer::StoreEvent;

const STRIPES: usize = 64;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: DiskOptions,
    pub(super) layout: Layout,
    pub(super) index: Index,
    pub(super) clock: Arc<dyn Clock>,
    /// Whether the index knows all files: until then, absence is asked of the disk.
    loaded: AtomicBool,
    /// Bytes of uploads on their way.
    pending: AtomicU64,
    stripes: Vec<Mutex<()>>,
    evicting: Mutex<()>,
    /// The folder of temporary files, locked for as long as this process serves the disk.
    held: Option<File>,
}

impl Core {
    /// Makes the folders, and throws away what uploads of an earlier process left.
    pub(super) fn open(options: DiskOptions, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let mut core = Self {
            layout: Layout::new(&options.path, options.form),
            index: Index::new(),
            clock,
            loaded: AtomicBool::new(false),
            pending: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            evicting: Mutex::default(),
            held: None,
            options,
        };
        core.create_folders()?;
        if !core.options.beside {
            core.held = core.lock().map_err(|error| core.error(core.layout.temporary(), &error))?;
        }
        if core.held.is_some() {
            core.remove_leftovers().map_err(|error| core.error(core.layout.temporary(), &error))?;
        }
        Ok(core)
    }

    /// Takes the disk for this process; `None` where another one has it, whose uploads are then left alone.
    fn lock(&self) -> io::Result<Option<File>> {
        let file = File::open(self.layout.temporary())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => {
                tracing::warn!(backend = %self.options.name, "another process serves this disk, too; one is to");
                Ok(None)
            }
            // A file system without locks: as it was before there were any.
            Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(file))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn create_folders(&self) -> Result<(), StoreError> {
        let objects = self.layout.object_folders(DigestFunction::Sha256).map(|(_, folder)| folder);
        for folder in objects.chain([self.layout.temporary().to_path_buf()]) {
            fs::create_dir_all(&folder).map_err(|error| self.error(&folder, &error))?;
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.layout.temporary())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Fills the index from the folders, then makes room if there is too much.
    pub(super) fn load(&self) -> Result<(), StoreError> {
        for function in DigestFunction::ALL {
            if !self.layout.function_folder(function).is_dir() {
                continue;
            }
            for (prefix, folder) in self.layout.object_folders(function) {
                self.load_folder(function, &prefix, &folder).map_err(|error| self.error(&folder, &error))?;
            }
        }
        self.loaded.store(true, Ordering::Release);
        self.make_room()
    }

    fn load_folder(&self, function: DigestFunction, prefix: &str, folder: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let named = |length| self.layout.digest(function, prefix, &name.to_string_lossy(), length);
            let Some(nominal) = named(0) else { continue };
            let _stripe = self.stripe(&nominal).lock();
            // Under the lock, so that a file which is deleted now doesn't enter the index.
            let Ok(metadata) = entry.metadata() else { continue };
            if let (true, Some(digest)) = (metadata.is_file(), named(metadata.len()))
                && self.options.form.fits(&digest, metadata.len())
            {
                self.index.insert_found(&digest, metadata.len(), last_used(&metadata));
            }
        }
        Ok(())
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    fn stripe(&self, digest: &Digest) -> &Mutex<()> {
        &self.stripes[usize::from(digest.hash_bytes()[0]) % STRIPES]
    }

    /// Asks the disk for a blob that the index does not know, while it is being filled.
    pub(super) fn look(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.layout.path(digest);
        let _stripe = self.stripe(digest).lock();
        match fs::metadata(&path) {
            Ok(metadata) if self.options.form.fits(digest, metadata.len()) => {
                self.index.insert_found(digest, metadata.len(), self.clock.now());
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.error(&path, &error)),
        }
    }

    /// Opens a blob at `offset`, and tells how many bytes its file has. A file of the wrong length is none: it was torn by
    /// a crash.
    pub(super) fn open_blob(&self, digest: &Digest, offset: u64) -> Result<(File, u64), StoreError> {
        let path = self.layout.path(digest);
        let trouble = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                StoreError::NotFound(*digest)
            } else {
                self.error(&path, &error)
            }
        };
        let opened = File::open(&path).map_err(trouble).and_then(|file| {
            let actual = file.metadata().map_err(trouble)?.len();
            let fits = self.options.form.fits(digest, actual);
            if fits { Ok((file, actual)) } else { Err(StoreError::NotFound(*digest)) }
        });
        match opened {
            Ok((mut file, length)) => {
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset)).map_err(trouble)?;
                }
                Ok((file, length))
            }
            Err(error) => {
                if matches!(error, StoreError::NotFound(_)) {
                    self.forget_if_gone(digest);
                }
                Err(error)
            }
        }
    }

    /// Those of `digests` that have no file, and no entry any more.
    pub(super) fn gone(&self, mut digests: Vec<Digest>) -> Vec<Digest> {
        digests.retain(|digest| !is_empty_blob(digest) && !self.is_whole(digest, &self.layout.path(digest)));
        digests.iter().for_each(|digest| self.forget_if_gone(digest));
        digests
    }

    /// Drops an entry whose file somebody took away behind our back.
    fn forget_if_gone(&self, digest: &Digest) {
        let _stripe = self.stripe(digest).lock();
        if !self.is_whole(digest, &self.layout.path(digest)) {
            self.index.remove(digest);
        }
    }

    fn is_whole(&self, digest: &Digest, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| self.options.form.fits(digest, metadata.len()))
    }

    /// The next `count` bytes of an open blob.
    pub(super) fn read_exactly(
        &self,
        file: &mut File,
        digest: &Digest,
        count: usize,
    ) -> Result<Bytes, StoreError> {
        let mut piece = Vec::with_capacity(count);
        let read = file.take(count as u64).read_to_end(&mut piece);
        read.map_err(|error| self.error(&self.layout.path(digest), &error))?;
        if piece.len() < count {
            return Err(StoreError::Corrupt { digest: *digest, backend: Arc::clone(&self.options.name) });
        }
        Ok(piece.into())
    }

    /// Takes `bytes` from the limit for an upload, making room for them.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        self.pending.fetch_add(bytes, Ordering::AcqRel);
        self.make_room()
    }

    pub(super) fn release(&self, bytes: u64) {
        self.pending.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn excess(&self) -> u64 {
        let held = self.index.bytes() + self.pending.load(Ordering::Acquire);
        self.options.max_size.map_or(0, |limit| held.saturating_sub(limit))
    }

    /// Evicts the oldest blobs while there is more than the limit, and a twentieth of the limit with them, so that
    /// the search for the oldest is made once for many writes.
    fn make_room(&self) -> Result<(), StoreError> {
        while self.excess() > 0 {
            let _one_at_a_time = self.evicting.lock();
            let excess = self.excess();
            if excess == 0 {
                break;
            }
            let slack = self.options.max_size.unwrap_or(0) / 20;
            let oldest = self.index.oldest(excess.saturating_add(slack));
            if oldest.is_empty() {
                // While the index is being filled, there is more to evict than it knows: loading ends in this again.
                return if self.is_loaded() { Err(self.full_of_uploads()) } else { Ok(()) };
            }
            for (seen, digest) in oldest {
                self.evict(&digest, seen)?;
            }
        }
        Ok(())
    }

    fn full_of_uploads(&self) -> StoreError {
        let message =
            format!("unfinished uploads fill all of its {} bytes", self.options.max_size.unwrap_or(0));
        StoreError::Full { backend: Arc::clone(&self.options.name), message }
    }

    /// Removes a blob unless it was used since it was found to be old.
    fn evict(&self, digest: &Digest, seen: Timestamp) -> Result<(), StoreError> {
        let _stripe = self.stripe(digest).lock();
        if let Some((used, bytes)) = self.index.used(digest)
            && used == seen
        {
            self.unlink(digest)?;
            let unused_for = self.clock.now().since(seen);
            self.options.observer.event("disk", StoreEvent::Evicted { bytes, unused_for });
        }
        Ok(())
    }

    pub(super) fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let _stripe = self.stripe(digest).lock();
        self.unlink(digest)
    }

    /// The caller holds the stripe. A file of another size is another digest's, or torn: it is not this blob.
    fn unlink(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layout.path(digest);
        self.index.remove(digest);
        if !self.is_whole(digest, &path) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(&path, &error)),
            _ => Ok(()),
        }
    }

    pub(super) fn temporary_file(&self) -> Result<NamedTempFile, StoreError> {
        let folder = self.layout.temporary();
        let file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder);
        file.map_err(|error| self.error(folder, &error))
    }

    /// Makes a finished temporary file of `length` bytes the blob.
    pub(super) fn commit(&self, digest: &Digest, length: u64, file: NamedTempFile) -> Result<(), StoreError> {
        let path = self.layout.path(digest);
        let trouble = |error: io::Error| self.error(&path, &error);
        if self.options.sync {
            file.as_file().sync_data().map_err(trouble)?;
        }
        let folder = path.parent().unwrap_or(&path);
        let _stripe = self.stripe(digest).lock();
        match file.persist(&path) {
            Err(error) if error.error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder).map_err(trouble)?;
                error.file.persist(&path).map_err(|error| trouble(error.error))?;
            }
            persisted => drop(persisted.map_err(|error| trouble(error.error))?),
        }
        if self.options.sync {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(trouble)?;
        }
        // Last: nobody may be told of a blob whose name could go with the machine.
        self.index.insert(digest, length, self.clock.now());
        Ok(())
    }

    /// Writes down in the files that they were used now, for the order of eviction after a restart. A file that this
    /// fails for only looks older than it is.
    pub(super) fn stamp(&self, digests: &[Digest]) {
        let now =
            SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(self.clock.now().0).unwrap_or(0));
        for digest in digests {
            let stamped = File::open(self.layout.path(digest))
                .and_then(|file| file.set_times(FileTimes::new().set_accessed(now)));
            if let Err(error) = stamped {
                tracing::debug!(%digest, %error, "time of access not renewed");
            }
        }
    }

    /// What a failure at `path` means.
    pub(super) fn error(&self, path: &Path, error: &io::Error) -> StoreError {
        let backend = Arc::clone(&self.options.name);
        let message = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full { backend, message }
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => StoreError::Refused { backend, message },
            // Descriptors come back when other calls end; a mount may come back, too.
            _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ESTALE)) => {
                StoreError::Unavailable { backend, message, retry_after: None }
            }
            _ => StoreError::Internal { backend, message },
        }
    }
}

const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();
const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ESTALE: i32 = rustix::io::Errno::STALE.raw_os_error();

/// The later of a file's times of access and of change: file systems that don't keep the first keep the second.
fn last_used(metadata: &fs::Metadata) -> Timestamp {
    let access = Timestamp::from_parts(metadata.atime(), i32::try_from(metadata.atime_nsec()).unwrap_or(0));
    let change = Timestamp::from_parts(metadata.mtime(), i32::try_from(metadata.mtime_nsec()).unwrap_or(0));
    access.max(change)
}
