//! What the runner's server tells a supervisor ([`Task`]) and what comes back ([`Report`]).
//!
//! Both are one line of JSON on the supervisor's standard input and output. Neighbours: `launch` writes tasks
//! and reads reports, `supervise` does the reverse.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::isolation::Enclosure;
use crate::work_protocol::Form;

/// A command to run, with every path absolute; `directory` as the enclosed command sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Task {
    /// The arguments, `arguments[0]` as the client gave it.
    pub(crate) arguments: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// The working directory.
    pub(crate) directory: PathBuf,
    /// The file to create for standard output.
    pub(crate) stdout: PathBuf,
    /// The file to create for standard error.
    pub(crate) stderr: PathBuf,
    /// What the command may use.
    pub(crate) limits: Limits,
    /// The directories that it may write to, not as the enclosed command sees them.
    pub(crate) writable: Vec<PathBuf>,
    /// What it is enclosed in.
    pub(crate) enclosure: Option<Enclosure>,
    /// The form of the work that it is given one after the other, where it is a persistent worker.
    pub(crate) resident: Option<Form>,
}

/// A piece of work for a command that stays; its line is followed by the request itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Job {
    /// Bytes of the request.
    pub(crate) bytes: usize,
    /// What the command may use for it.
    pub(crate) limits: Limits,
}

/// What a command may use. `None` is no limit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Wall-clock time, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
    /// Bytes of standard output and standard error, each.
    pub(crate) log_bytes: Option<u64>,
    /// Bytes of resident memory of all processes together.
    pub(crate) memory_bytes: Option<u64>,
    /// Processes alive at once.
    pub(crate) processes: Option<u64>,
    /// Bytes of any one file written.
    pub(crate) file_bytes: Option<u64>,
    /// Bytes on disk of all files that it makes.
    pub(crate) disk_bytes: Option<u64>,
}

impl Limits {
    /// Whether any limit needs the supervisor to look at the tree from time to time.
    pub(crate) const fn need_watching(&self) -> bool {
        self.log_bytes.is_some()
            || self.memory_bytes.is_some()
            || self.processes.is_some()
            || self.disk_bytes.is_some()
    }
}

/// How a command ended, and what it used.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Report {
    /// How it ended.
    pub(crate) end: End,
    /// What all its processes used together.
    pub(crate) usage: Usage,
}

/// How a command ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// Not at all: it has answered, and waits for the next piece of work.
    Answered {
        /// The exit code of the work.
        exit_code: i32,
        /// What the user is to see.
        output: String,
    },
    /// Killed because it did not do its work as the protocol asks, or ended over it; how.
    Broken(String),
    /// By this signal.
    Signalled(i32),
    /// It never ran: the shell's exit code for that, and why.
    NotStarted {
        /// 126 or 127.
        code: i32,
        /// Why, for the client.
        reason: String,
    },
    /// It never ran: it could not be enclosed as it has to be, and why.
    NotEnclosed(String),
    /// It never ran: the runner lacks what it needs for any command, and what.
    Lacking(String),
    /// Killed when its time was over.
    TimedOut,
    /// Killed because it used too much; what, stands in its standard error.
    OverLimit,
    /// Killed because nobody waits for it any more.
    Abandoned,
}

/// What a tree of processes used, from the kernel's accounts of reaped children.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Microseconds in user mode.
    pub(crate) user_us: i64,
    /// Microseconds in the kernel.
    pub(crate) system_us: i64,
    /// The largest resident set of any one process, in bytes.
    pub(crate) max_rss_bytes: i64,
    /// Page faults without I/O.
    pub(crate) minor_faults: i64,
    /// Page faults with I/O.
    pub(crate) major_faults: i64,
    /// Blocks read.
    pub(crate) block_reads: i64,
    /// Blocks written.
    pub(crate) block_writes: i64,
    /// Context switches that a process asked for.
    pub(crate) voluntary_switches: i64,
    /// Context switches that were forced on it.
    pub(crate) involuntary_switches: i64,
}
