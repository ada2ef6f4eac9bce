//! The entries of a directory that is there already: what they are, and how they become those of a listing.
//!
//! Neighbours: `layout` walks the tree, `laid` tells whether a directory needs to be looked at. Blocking.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, readlinkat, statat, symlinkat, unlinkat};

use super::laid::is_ours;
use super::listing::Listing;
use crate::cache::{FileCache, FileKey};
use crate::removal::remove_tree;

/// What a name stands for.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    File(FileKey),
    Link(OsString),
    Directory,
    /// Anything that no listing asks for.
    Foreign,
}

/// The entries of a directory, by name.
pub(super) type Entries = HashMap<OsString, Entry>;

/// What a listing asks for.
pub(super) fn of_listing(listing: &Listing) -> Entries {
    let name = |name: &str| OsString::from(name);
    let files = listing.files.iter().map(|(n, key)| (name(n), Entry::File(*key)));
    let links = listing.links.iter().map(|(n, target)| (name(n), Entry::Link(name(target))));
    let directories = listing.directories.iter().map(|(n, _)| (name(n), Entry::Directory));
    files.chain(links).chain(directories).collect()
}

/// What is really there. A file counts as an input only where `wanted` has it in this place and it is the cache's.
pub(super) fn observe(directory: &OwnedFd, wanted: &Entries, cache: &FileCache) -> std::io::Result<Entries> {
    let mut entries = Entries::new();
    for entry in Dir::read_from(directory)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let found = match (FileType::from_raw_mode(stat.st_mode), wanted.get(&name)) {
            (FileType::Directory, _) if is_ours(&stat) => Entry::Directory,
            (FileType::Symlink, _) => {
                let target = readlinkat(directory, &name, Vec::new())?;
                Entry::Link(OsStr::from_bytes(target.to_bytes()).to_owned())
            }
            (FileType::RegularFile, Some(Entry::File(key))) if cache.is_placed(key, &stat) => {
                Entry::File(*key)
            }
            _ => Entry::Foreign,
        };
        entries.insert(name, found);
    }
    Ok(entries)
}

/// Makes what is `present` what is `wanted`, but for directories that are missing.
pub(super) fn mend(
    directory: &OwnedFd,
    present: &Entries,
    wanted: &Entries,
    cache: &FileCache,
) -> std::io::Result<()> {
    for (name, found) in present {
        if wanted.get(name) != Some(found) {
            remove(directory, name, found)?;
        }
    }
    for (name, entry) in wanted {
        if present.get(name) == Some(entry) {
            continue;
        }
        match entry {
            Entry::File(key) => cache.place(key, directory, name)?,
            Entry::Link(target) => symlinkat(target, directory, name)?,
            Entry::Directory | Entry::Foreign => {}
        }
    }
    Ok(())
}

fn remove(directory: &OwnedFd, name: &OsStr, found: &Entry) -> std::io::Result<()> {
    match found {
        Entry::File(_) | Entry::Link(_) => unlinkat(directory, name, AtFlags::empty())?,
        Entry::Directory | Entry::Foreign => remove_tree(directory, Path::new(name))?,
    }
    Ok(())
}
