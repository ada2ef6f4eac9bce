//! [`Disks`]: the room that stays free where actions run and inputs are cached.
//!
//! Other pods fill a node's disk too, and limits of volumes may not be enforced; so the worker looks at what is
//! really free. Cached inputs go first, for they can be fetched again; only where that isn't enough is the worker
//! in trouble. Neighbour: `health` asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statvfs;

use crate::cache::FileCache;
use crate::stage::SpareTrees;

/// What stays free of a large disk.
const RESERVE: u64 = 1 << 30;
/// What stays free of a small one.
const RESERVE_PERCENT: u64 = 3;

/// The disks that a worker writes to.
#[derive(Clone, Debug)]
pub struct Disks {
    paths: Vec<PathBuf>,
    reserve: Option<u64>,
}

impl Disks {
    /// The disks of these directories, and the bytes that stay free on each; `None` for the default.
    #[must_use]
    pub fn new(paths: &[&Path], reserve: Option<u64>) -> Self {
        Self { paths: paths.iter().map(|path| path.to_path_buf()).collect(), reserve }
    }

    /// Makes room where it is needed, and says where that failed.
    pub async fn trouble(&self, cache: &Arc<FileCache>, spares: &Arc<SpareTrees>) -> Option<String> {
        let (disks, cache, spares) = (self.clone(), cache.clone(), spares.clone());
        let look = tokio::task::spawn_blocking(move || {
            let lacking = disks.paths.iter().map(|path| disks.lack(path)).collect::<Result<Vec<_>, _>>();
            match lacking.map(|lacking| lacking.into_iter().max().unwrap_or(0)) {
                Ok(0) => return None,
                Ok(lack) => {
                    while spares.give_up_one() {}
                    cache.give_up(lack);
                }
                Err(trouble) => return Some(trouble),
            }
            disks.paths.iter().find_map(|path| match disks.lack(path) {
                Ok(0) => None,
                Ok(lack) => Some(format!("the disk of {} lacks {lack} bytes of free space", path.display())),
                Err(trouble) => Some(trouble),
            })
        });
        look.await.unwrap_or_else(|error| Some(error.to_string()))
    }

    /// How many bytes too few are free.
    fn lack(&self, path: &Path) -> Result<u64, String> {
        let disk = statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(lack(bytes(disk.f_bavail), bytes(disk.f_blocks), self.reserve))
    }
}

fn lack(free: u64, size: u64, reserve: Option<u64>) -> u64 {
    let reserve = reserve.unwrap_or_else(|| RESERVE.min(size / 100 * RESERVE_PERCENT));
    reserve.saturating_sub(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_large_disk_is_not_full_at_its_last_percent() {
        assert_eq!(lack(2 * GIB, 1_000 * GIB, None), 0);
        assert_eq!(lack(GIB / 2, 1_000 * GIB, None), GIB / 2);
        assert_eq!(lack(GIB / 10, 2 * GIB, None), 0, "3 % of a small one are enough");
        assert_eq!(lack(0, 100, None), 3);
        assert_eq!(lack(5, 1_000 * GIB, Some(7)), 2, "what was said stands");
    }
}
