//! Waiting for what no server announces: changes in a directory, and the ends of processes, as the kernel tells
//! them. To the runtime, whatever can be polled is a pipe's end.

use std::fs::{read, read_dir, read_to_string};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::unix::pipe::Receiver;

/// Waits until `condition` holds; it is asked again whenever an entry of `directory` comes, changes or goes.
pub(crate) async fn until(directory: &Path, what: &str, mut condition: impl FnMut() -> bool) {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    let events = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::MOVE;
    inotify::add_watch(&watch, directory, events).unwrap();
    let watch = Receiver::from_owned_fd_unchecked(watch).unwrap();
    in_time(what, async {
        while !condition() {
            watch.readable().await.unwrap();
            let mut events = [0; 4096];
            while watch.try_read(&mut events).is_ok_and(|count| count > 0) {}
        }
    })
    .await;
}

/// Waits until no process with this word among its arguments is alive.
pub(crate) async fn gone(word: &str) {
    in_time("the end of a command", async {
        while let Some(pid) = alive(word).first() {
            // One that ended meanwhile can't be opened.
            let process: Result<OwnedFd, _> = pidfd_open(*pid, PidfdFlags::NONBLOCK);
            if let Ok(process) = process {
                Receiver::from_owned_fd_unchecked(process).unwrap().readable().await.unwrap();
            }
        }
    })
    .await;
}

/// The living processes that have this word in one of their arguments.
pub(crate) fn alive(word: &str) -> Vec<Pid> {
    let holds = |pid: &Pid| {
        let process = Path::new("/proc").join(pid.as_raw_pid().to_string());
        let arguments = read(process.join("cmdline")).unwrap_or_default();
        let stat = read_to_string(process.join("stat")).unwrap_or_default();
        let dead = stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'));
        !dead && arguments.windows(word.len()).any(|part| part == word.as_bytes())
    };
    read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(holds)
        .collect()
}

async fn in_time(what: &str, wait: impl Future<Output = ()>) {
    tokio::time::timeout(super::PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} in time"));
}
