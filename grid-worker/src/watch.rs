//! [`Watch`]: waits for changes of a directory's entries, as the kernel tells them.
//!
//! Neighbours: `execute::live` follows logs with it, `notice` waits for a file.

use std::io;
use std::path::Path;

use rustix::fs::inotify;
use tokio::net::unix::pipe::Receiver;

/// A watched directory.
#[derive(Debug)]
pub struct Watch {
    /// To the runtime, whatever can be polled and read is a pipe's end.
    events: Receiver,
}

impl Watch {
    /// Watches for entries that come or are written to.
    ///
    /// # Errors
    /// Where the directory isn't there, or the system has no more watches.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let events =
            inotify::WatchFlags::CREATE | inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, events)?;
        Ok(Self { events: Receiver::from_owned_fd_unchecked(watch)? })
    }

    /// Waits for any change since the last call, and forgets all that came.
    ///
    /// # Errors
    /// The system's own.
    pub async fn changed(&self) -> io::Result<()> {
        self.events.readable().await?;
        let mut events = [0; 4096];
        while self.events.try_read(&mut events).is_ok_and(|count| count > 0) {}
        Ok(())
    }
}
