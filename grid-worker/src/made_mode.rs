//! The mode that a command gave what it made, kept beside it where the runner has to open it up for the worker.
//!
//! It lies in an extended attribute, which the runner writes and the worker reads for `unix_mode`. A command may write it
//! too: it then says of its own outputs what it could have said by chmod. Where the file system keeps no such attributes,
//! or none is there, the mode that is there counts. Neighbours: `runner::settle`, `upload::collect`.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{XattrFlags, fsetxattr, getxattr};

const NAME: &str = "user.grid-made-mode";
const MODE: u32 = 0o7777;

/// Keeps the mode of what `file` is, which its owner must be allowed to write to.
pub(crate) fn keep(file: impl AsFd, mode: u32) {
    // Without it the worker tells the mode that is there, which is never less than what was made.
    let _ = fsetxattr(file, NAME, format!("{:o}", mode & MODE).as_bytes(), XattrFlags::empty());
}

/// The mode that a command gave a file or directory whose mode is `now`; the descriptor may be a mere path.
pub(crate) fn of(file: BorrowedFd<'_>, now: u32) -> u32 {
    let mut text = [0; 8];
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let kept = getxattr(path, NAME, &mut text).ok().and_then(|length| {
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        u32::from_str_radix(text, 8).ok()
    });
    // Nothing is taken away by opening up, but for the sticky bit: else it is not of this mode.
    kept.filter(|made| made & !0o1000 & !now == 0).unwrap_or(now) & MODE
}
