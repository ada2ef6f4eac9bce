//! Looking at and ending all processes below one.
//!
//! The caller is a subreaper, so whatever its descendants do, they stay its descendants: a process whose
//! parent dies becomes the caller's own child. Neighbours: `supervise` ends a command's tree, `orphans` that of
//! a supervisor that was itself killed. The module knows processes from `/proc` alone and never signals one
//! that it hasn't found below the caller.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;

use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, CWD, Dir, Mode, OFlags, accessat, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};

/// How often new processes are looked for while stopping a tree, before it is killed as far as it is known.
const STOP_PASSES: usize = 64;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) parent: i32,
    /// Whether it is stopped or already dead, and so can't fork.
    pub(super) inert: bool,
    /// Resident pages.
    pub(super) resident_pages: u64,
}

/// The processes that this one sees. `/proc` is held open: it need not be there any more once the caller is
/// enclosed.
#[derive(Debug)]
pub(super) struct ProcessTree {
    proc: OwnedFd,
}

impl ProcessTree {
    pub(super) fn open() -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { proc: openat(CWD, "/proc", flags, Mode::empty())? })
    }

    /// All processes below `root`, not `root` itself.
    pub(super) fn descendants(&self, root: Pid) -> Vec<Process> {
        let mut below: HashMap<i32, Vec<Process>> = HashMap::new();
        let Ok(entries) = Dir::read_from(&self.proc) else { return Vec::new() };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if !name.iter().all(u8::is_ascii_digit) {
                continue;
            }
            if let Some(process) = self.stat(name).as_deref().and_then(parse) {
                below.entry(process.parent).or_default().push(process);
            }
        }
        let mut found = Vec::new();
        let mut open = vec![root.as_raw_pid()];
        while let Some(parent) = open.pop() {
            for process in below.remove(&parent).unwrap_or_default() {
                open.push(process.pid.as_raw_pid());
                found.push(process);
            }
        }
        found
    }

    /// The caller's own children, dead ones too, without a look at any other process; `None` where the kernel doesn't
    /// tell. While one of them is being reaped, the kernel may leave another one out.
    pub(super) fn children(&self) -> Option<Vec<Pid>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let threads = openat(&self.proc, "self/task", flags, Mode::empty()).ok()?;
        let mut children = Vec::new();
        for thread in Dir::read_from(&threads).ok()?.flatten() {
            let name = thread.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = [name, b"/children"].concat();
            let file = match openat(&threads, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => file,
                // A thread that ended meanwhile gave its children to another; a kernel without such files has none.
                Err(Errno::NOENT) if children_are_told(&threads) => continue,
                Err(_) => return None,
            };
            let mut text = String::new();
            File::from(file).read_to_string(&mut text).ok()?;
            children.extend(text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        }
        Some(children)
    }

    /// Bytes, since a process names itself.
    fn stat(&self, pid: &[u8]) -> Option<Vec<u8>> {
        let path = [pid, b"/stat"].concat();
        let file = openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut stat = Vec::new();
        File::from(file).read_to_end(&mut stat).ok()?;
        Some(stat)
    }

    /// Kills everything below the caller and waits until nothing is left; gives the status of `main` where it was
    /// among what was reaped.
    pub(super) fn end_all(&self, main: Pid) -> Option<WaitStatus> {
        let mut status = None;
        loop {
            match reap(main, &mut status, WaitOptions::NOHANG) {
                Reaped::One => continue,
                Reaped::NoneLeft => return status,
                Reaped::Alive => {}
            }
            self.kill_below(getpid());
            if matches!(reap(main, &mut status, WaitOptions::empty()), Reaped::NoneLeft) {
                return status;
            }
        }
    }

    /// Kills all that is below `root`. Everything is stopped first: a tree that forks as fast as it is killed
    /// could outlive any number of passes of kills alone.
    pub(super) fn kill_below(&self, root: Pid) {
        self.stop_below(root);
        for process in self.descendants(root) {
            let _ = kill_process(process.pid, Signal::KILL);
        }
    }

    /// Lets all that is below `root` and was stopped go on.
    pub(super) fn resume_below(&self, root: Pid) {
        for process in self.descendants(root) {
            let _ = kill_process(process.pid, Signal::CONT);
        }
    }

    /// Stops all that is below `root`, also what is forked meanwhile.
    pub(super) fn stop_below(&self, root: Pid) {
        let mut stopped = HashSet::new();
        for _ in 0..STOP_PASSES {
            let fresh: Vec<Pid> = self
                .descendants(root)
                .into_iter()
                .filter(|p| !p.inert && !stopped.contains(&p.pid))
                .map(|p| p.pid)
                .collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                // It may be gone already, which is what is wanted.
                let _ = kill_process(pid, Signal::STOP);
                stopped.insert(pid);
            }
        }
    }
}

/// Whether this kernel lists children, by the process's first thread, which never ends before it.
fn children_are_told(threads: &OwnedFd) -> bool {
    let path = format!("{}/children", getpid().as_raw_pid());
    accessat(threads, path, Access::READ_OK, AtFlags::empty()).is_ok()
}

/// Parses `PID (NAME) STATE PPID …`; the name may itself hold spaces and parentheses.
fn parse(stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let pid = std::str::from_utf8(stat.get(..stat.iter().position(|b| *b == b' ')?)?).ok()?;
    let rest: Vec<&str> = std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace().collect();
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?)?,
        parent: rest.get(1)?.parse().ok()?,
        inert: matches!(*rest.first()?, "T" | "t" | "Z" | "X"),
        resident_pages: rest.get(21)?.parse().unwrap_or(0),
    })
}

enum Reaped {
    One,
    Alive,
    NoneLeft,
}

fn reap(main: Pid, status: &mut Option<WaitStatus>, options: WaitOptions) -> Reaped {
    loop {
        match wait(options) {
            Ok(Some((pid, ended))) => {
                if pid == main {
                    *status = Some(ended);
                }
                return Reaped::One;
            }
            Ok(None) => return Reaped::Alive,
            Err(Errno::INTR) => {}
            Err(_) => return Reaped::NoneLeft,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_are_no_trouble() {
        let stat = b"42 (a) R 1 (b)) Z 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 100 1000 33 0";
        let process = parse(stat).unwrap();
        assert_eq!((process.pid.as_raw_pid(), process.parent, process.inert), (42, 7, true));
        assert_eq!(process.resident_pages, 33);
        assert_eq!(parse(b"42 (x"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn finds_children_and_not_itself() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let found = ProcessTree::open().unwrap().descendants(getpid());
        let children = ProcessTree::open().unwrap().children();
        child.kill().unwrap();
        child.wait().unwrap();
        let own = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(children.is_none_or(|children| children.contains(&own)));
        assert!(found.iter().any(|p| p.pid.as_raw_pid() == i32::try_from(child.id()).unwrap()));
        assert!(found.iter().all(|p| p.pid != getpid()));
    }
}
