//! The supervisor of one command: `grid-runner supervise`, started by `supervisors`.
//!
//! It reads a [`Task`] from standard input, runs it, and writes a [`Report`] to standard output once nothing
//! that the command started is alive any more. Standard input stays open as a lifeline: when it ends, nobody
//! waits for the command, and the tree is killed. That needs no timer and no heartbeat, and holds when the
//! server is killed too.
//!
//! It is a process of its own, with a single thread, because the things it sets (subreaper, umask, limits,
//! session) belong to a process, and because every child it can wait for belongs to its command.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, WaitStatus, getpid, getrlimit, pidfd_open,
    set_child_subreaper, set_dumpable_behavior, setrlimit, setsid, umask,
};

use super::disk_use::DiskUse;
use super::enclose;
use super::isolation::{Enclosure, Isolation};
use super::log_file::LogFile;
use super::lookup;
use super::process_tree::ProcessTree;
use super::reside::{Pipes, Resident, reside};
use super::task::{End, Limits, Report, Task, Usage};
use crate::runner_protocol::{NOT_EXECUTABLE, NOT_FOUND};
use crate::work_protocol::Form;

/// How often a tree with limits is looked at: nothing announces growth.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Adjustment of the score by which the kernel chooses whom to kill when memory runs out: commands before the
/// runner.
const OOM_SCORE: &str = "500";

/// Runs the task on standard input to its end.
///
/// # Errors
/// Where the task can't be read or the process can't be set up; how the command ended is no error.
pub fn run() -> anyhow::Result<()> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    if input.read_line(&mut line).context("reading the task")? == 0 {
        // The runner was killed before it could say what it wants.
        return Ok(());
    }
    let task: Task = serde_json::from_str(&line).context("parsing the task")?;
    set_up(&task.limits).context("setting up the supervisor")?;
    let end = match start(&task) {
        Ok((Spawned { pid, pipes: None }, mut watched)) => attend(pid, &mut watched, &task.limits)?,
        Ok((Spawned { pid, pipes: Some((form, pipes)) }, mut watched)) => {
            reside(&mut input, Resident { pid, pipes, form, watched: &mut watched })?
        }
        Err(end) => end,
    };
    say(&Report { end, usage: usage()? })
}

/// Writes a report; the reader may be gone, then nobody asks.
pub(super) fn say(report: &Report) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(report)?;
    text.push('\n');
    let mut output = std::io::stdout();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    Ok(())
}

/// Makes this process what the command's processes shall inherit, and their last parent.
fn set_up(limits: &Limits) -> anyhow::Result<()> {
    // Some sandboxes forbid it; the command then has the runner's own score.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    set_child_subreaper(Some(getpid()))?;
    rustix::thread::set_no_new_privs(true)?;
    setsid()?;
    umask(Mode::from_raw_mode(0o022));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if limits.file_bytes.is_some() {
        setrlimit(Resource::Fsize, Rlimit { current: limits.file_bytes, maximum: limits.file_bytes })?;
    }
    Ok(())
}

/// What is looked at from time to time, opened before the process is enclosed.
pub(super) struct Watched {
    /// Standard output and standard error.
    logs: [LogFile; 2],
    disk: DiskUse,
    pub(super) tree: ProcessTree,
}

/// A command that was started.
struct Spawned {
    pid: Pid,
    /// Where it stays, how it is talked to.
    pipes: Option<(Form, Pipes)>,
}

/// Encloses this process where the task says so, and starts the command. Where that is impossible for a reason that
/// is the command's, it says so in the command's standard error too, as a shell would.
fn start(task: &Task) -> Result<(Spawned, Watched), End> {
    let create = |path: &std::path::Path| {
        LogFile::create(path)
            .map_err(|error| End::Lacking(format!("creating a file for the command's output: {error}")))
    };
    let ((stdout, out), (mut stderr, err)) = (create(&task.stdout)?, create(&task.stderr)?);
    let tree = ProcessTree::open().map_err(|error| End::NotEnclosed(format!("opening /proc: {error}")))?;
    let watched = Watched { logs: [out, err], disk: DiskUse::of(&task.writable), tree };
    enclose(task).map_err(|error| End::NotEnclosed(format!("{error:#}")))?;
    let started = spawn(task, stdout, &stderr).inspect_err(|end| {
        if let End::NotStarted { reason, .. } = end {
            let _ = writeln!(stderr, "{reason}");
        }
    });
    started.map(|spawned| (spawned, watched))
}

/// What must happen before the command is there, in this order: a process whose files in /proc belong to root
/// can't map its users.
fn enclose(task: &Task) -> anyhow::Result<()> {
    if let Some(enclosure) = &task.enclosure {
        enclose::enter(enclosure)?;
        bound_processes(enclosure, &task.limits)?;
    }
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Bounds what a fork bomb makes between two looks. The kernel counts by user and user namespace: only in one of its
/// own is that the command's number, and not that of every pod with the same user.
fn bound_processes(enclosure: &Enclosure, limits: &Limits) -> anyhow::Result<()> {
    if let (Isolation::Bubblewrap, Some(most)) = (enclosure.isolation, limits.processes) {
        // Beyond what is allowed, so that the command is ended for it, and told why.
        let allowed = getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX);
        let most = Some(most.saturating_mul(2).min(allowed));
        setrlimit(Resource::Nproc, Rlimit { current: most, maximum: most })?;
    }
    Ok(())
}

fn spawn(task: &Task, stdout: File, stderr: &File) -> Result<Spawned, End> {
    let name = task.arguments.first().map_or("", String::as_str);
    let path = task.environment.get("PATH").cloned().or_else(|| std::env::var("PATH").ok());
    let program = lookup::program(name, path.as_deref(), &task.directory)
        .map_err(|error| End::NotStarted { code: error.code, reason: error.reason })?;
    let stderr = stderr.try_clone().map_err(|error| End::Lacking(error.to_string()))?;
    let (stdin, stdout) = match task.resident {
        Some(_) => (Stdio::piped(), Stdio::piped()),
        None => (Stdio::null(), stdout.into()),
    };
    let child = Command::new(program)
        .arg0(name)
        .args(task.arguments.iter().skip(1))
        .env_clear()
        .envs(&task.environment)
        .current_dir(&task.directory)
        .process_group(0)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn();
    match child {
        Ok(child) => {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
            let pid = pid.ok_or_else(|| End::Lacking("a process without an id".to_owned()))?;
            let pipes = child.stdin.zip(child.stdout).map(|(to, from)| Pipes { to, from });
            Ok(Spawned { pid, pipes: task.resident.zip(pipes) })
        }
        Err(error) => Err(not_started(name, &error)),
    }
}

/// Why there is no process: for want of one or of what it takes, which another worker may have, or for the command's
/// own sake.
fn not_started(name: &str, error: &std::io::Error) -> End {
    let errno = Errno::from_io_error(error);
    match errno {
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::IO) => {
            End::Lacking(format!("{name}: {error}"))
        }
        // The file was there: what is missing is the interpreter that it names.
        Some(Errno::NOENT) => {
            let reason = format!("{name}: the file is there, its interpreter is not");
            End::NotStarted { code: NOT_FOUND, reason }
        }
        _ => End::NotStarted { code: NOT_EXECUTABLE, reason: format!("{name}: {error}") },
    }
}

/// Waits for the command's end or a reason to end it, and leaves nothing of it alive.
fn attend(pid: Pid, watched: &mut Watched, limits: &Limits) -> anyhow::Result<End> {
    let reason = wait(pid, watched, limits);
    let status = watched.tree.end_all(pid);
    if let Some(most) = limits.log_bytes {
        watched.logs.iter().for_each(|log| log.shorten(most));
    }
    match reason? {
        Some(Reason::Abandoned) => Ok(End::Abandoned),
        Some(Reason::TimedOut) => Ok(End::TimedOut),
        Some(Reason::OverLimit(what)) => {
            watched.logs[1].add(&format!("the action was ended: {what}\n"));
            Ok(End::OverLimit)
        }
        None => status.and_then(end_of).context("the command's status was lost"),
    }
}

/// Why a command is ended.
enum Reason {
    Abandoned,
    TimedOut,
    OverLimit(String),
}

/// `None` where the command ended by itself.
fn wait(pid: Pid, watched: &mut Watched, limits: &Limits) -> anyhow::Result<Option<Reason>> {
    let process = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open: Linux 5.3 or later is needed")?;
    let stdin = std::io::stdin();
    let deadline = limits.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    loop {
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, patience(deadline, limits).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            return Ok(None);
        }
        if !fds[1].revents().is_empty() {
            return Ok(Some(Reason::Abandoned));
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            return Ok(Some(Reason::TimedOut));
        }
        if let Some(what) = exceeded(watched, limits) {
            return Ok(Some(Reason::OverLimit(what)));
        }
    }
}

/// How long to wait for an event; `None` for as long as it takes.
pub(super) fn patience(deadline: Option<Instant>, limits: &Limits) -> Option<Timespec> {
    let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
    let watch = limits.need_watching().then_some(WATCH_INTERVAL);
    left.into_iter().chain(watch).min().and_then(|wait| Timespec::try_from(wait).ok())
}

pub(super) fn exceeded(watched: &mut Watched, limits: &Limits) -> Option<String> {
    let log = limits.log_bytes.and_then(|most| {
        let over = watched.logs.iter().zip(["output", "error"]).find(|(log, _)| log.length() > most);
        over.map(|(_, name)| format!("standard {name} is longer than {most} bytes"))
    });
    let disk = || {
        let most = limits.disk_bytes?;
        let bytes = watched.disk.measure().filter(|bytes| *bytes > most)?;
        Some(format!("the command's files hold {bytes} bytes of the disk; {most} are allowed"))
    };
    let files = log.or_else(disk);
    if files.is_some() || (limits.memory_bytes.is_none() && limits.processes.is_none()) {
        return files;
    }
    let tree = watched.tree.descendants(getpid());
    let memory: u64 = tree.iter().map(|p| p.resident_pages).sum::<u64>() * rustix::param::page_size() as u64;
    if let Some(most) = limits.memory_bytes.filter(|most| memory > *most) {
        return Some(format!("the command's processes hold {memory} bytes of memory; {most} are allowed"));
    }
    let most = limits.processes.filter(|most| tree.len() as u64 > *most)?;
    Some(format!("the command has {} processes; {most} are allowed", tree.len()))
}

fn end_of(status: WaitStatus) -> Option<End> {
    status.exit_status().map(End::Exited).or_else(|| status.terminating_signal().map(End::Signalled))
}

/// What the reaped children used: after [`ProcessTree::end_all`] these are all the command's processes.
fn usage() -> anyhow::Result<Usage> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(Usage {
        user_us: micros(usage.user_time()),
        system_us: micros(usage.system_time()),
        // Linux counts in KiB.
        max_rss_bytes: usage.max_rss() * 1024,
        minor_faults: usage.minor_page_faults(),
        major_faults: usage.major_page_faults(),
        block_reads: usage.block_reads(),
        block_writes: usage.block_writes(),
        voluntary_switches: usage.voluntary_context_switches(),
        involuntary_switches: usage.involuntary_context_switches(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_lacks_is_not_the_commands_fault() {
        let end = |errno: Errno| not_started("tool", &errno.into());
        for errno in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::IO] {
            assert!(matches!(end(errno), End::Lacking(_)), "{errno}");
        }
        for (errno, expected) in [
            (Errno::NOENT, NOT_FOUND),
            (Errno::ACCESS, NOT_EXECUTABLE),
            (Errno::TOOBIG, NOT_EXECUTABLE),
            (Errno::NOEXEC, NOT_EXECUTABLE),
            (Errno::NOTDIR, NOT_EXECUTABLE),
        ] {
            assert!(matches!(end(errno), End::NotStarted { code, .. } if code == expected), "{errno}");
        }
    }
}
