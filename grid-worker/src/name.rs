//! A name for a worker that was given none: the host's, and a random part.
//!
//! It is kept with the cache, which is one worker's alone, until the machine starts anew: a worker that was killed comes
//! back under its name, and the grid gives the leases that it held to others at once, not when its session has run out. A copy
//! of the cache on another machine is another worker.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where Linux says which start of which machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FILE: &str = "name";

/// The name of the worker whose cache lies in this folder, which is there.
pub(crate) fn of_cache(cache: &Path) -> Result<String> {
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    kept(cache, boot.trim(), &host).with_context(|| format!("--cache-dir {}", cache.display()))
}

fn kept(cache: &Path, boot: &str, host: &str) -> std::io::Result<String> {
    let path = cache.join(FILE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let here = |name: &&str| name.strip_prefix(host).is_some_and(|rest| rest.starts_with('-'));
    if let Some(name) = text.strip_prefix(boot).and_then(|rest| rest.strip_prefix(' ')).filter(here) {
        return Ok(name.to_owned());
    }
    let name = format!("{host}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let fresh = cache.join("name.new");
    fs::write(&fresh, format!("{boot} {name}"))?;
    fs::rename(fresh, path)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_comes_back_has_its_name_and_no_other_has() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = kept(one.path(), "boot", "host").unwrap();
        assert!(name.starts_with("host-"), "{name}");
        assert_eq!(kept(one.path(), "boot", "host").unwrap(), name);
        assert_ne!(kept(other.path(), "boot", "host").unwrap(), name);
        assert_ne!(kept(one.path(), "another boot", "host").unwrap(), name);
        assert!(kept(one.path(), "boot", "copy").unwrap().starts_with("copy-"));
        fs::write(one.path().join(FILE), "boot").unwrap();
        assert_ne!(kept(one.path(), "boot", "host").unwrap(), name);
    }
}
