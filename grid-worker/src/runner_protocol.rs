//! What grid-worker and grid-runner say to each other beyond Buildbarn's runner protocol.
//!
//! Everything here travels as gRPC metadata, so that a runner or a worker that knows none of it still
//! understands every call: absent keys mean the runner's defaults, unknown keys are ignored. Neighbours:
//! `runner::service` reads the requests and writes the outcome, `runner_client` does the reverse. The module
//! refuses to hold behaviour.

/// The largest request: arguments and environment as large as a client may send them. What the system then takes of
/// them is the command's affair, and its exit code says so.
pub const MESSAGE_LIMIT: usize = 64 << 20;

/// How long the command may run, in milliseconds. After it the runner kills the tree and answers, so that the
/// worker can still collect what was produced.
pub const TIMEOUT_MS: &str = "grid-runner-timeout-ms";
/// The most bytes that standard output and standard error may hold, each.
pub const LOG_BYTES: &str = "grid-runner-log-bytes";
/// The most bytes of resident memory of the command's processes together.
pub const MEMORY_BYTES: &str = "grid-runner-memory-bytes";
/// The most processes that may be alive at once.
pub const PROCESSES: &str = "grid-runner-processes";
/// The most bytes of one file that the command writes.
pub const FILE_BYTES: &str = "grid-runner-file-bytes";

/// The most bytes on disk of all files that the command makes.
pub const DISK_BYTES: &str = "grid-runner-disk-bytes";
/// Whether the command may reach the network, where isolation would keep it from that: [`ON`], else it may not.
pub const NETWORK: &str = "grid-runner-network";
/// Value of [`NETWORK`].
pub const ON: &str = "on";
/// The user id that the command is to see as its own; it owns its inputs then.
pub const UID: &str = "grid-runner-uid";
/// The group id that the command is to see as its own.
pub const GID: &str = "grid-runner-gid";

/// The name of a command that stays: its call lasts until the command ends, and ends it when it is dropped. Beside it
/// the form of the work that it is given: `proto` or `json`.
pub const RESIDENT: &str = "grid-runner-resident";
/// See [`RESIDENT`].
pub const WORK_FORM: &str = "grid-runner-work-form";
/// The file with a piece of work for the resident that [`RESIDENT`] names, relative to the build directory. The call has no
/// arguments, and lasts until the work is done. In the answer: that it is one, [`ON`]. An error means that the resident is
/// of no use any more, unless the runner itself can't be reached.
pub const WORK: &str = "grid-runner-work";

/// In the answer: how the command ended, where the exit code alone doesn't tell: [`TIMED_OUT`]. What else a runner has
/// to say, as of a limit that was passed, it says in the command's standard error.
pub const OUTCOME: &str = "grid-runner-outcome";
/// Value of [`OUTCOME`]: the timeout passed and the tree was killed.
pub const TIMED_OUT: &str = "timed-out";

/// The exit code for a command that was found but can't be executed, as shells give it.
pub const NOT_EXECUTABLE: i32 = 126;
/// The exit code for a command that was not found, as shells give it.
pub const NOT_FOUND: i32 = 127;
/// What a terminating signal's number is added to for the exit code, as shells do.
pub const SIGNAL_BASE: i32 = 128;
