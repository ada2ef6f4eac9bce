//! [`Job`]: one execution of an action, as data. What may happen to it is in [`crate::transition`].
//!
//! The part that never changes ([`JobSpec`]) is apart from the part that does ([`JobState`]), so that a store
//! rewrites only the latter.

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, ErrorCode, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::history::Run;
use crate::ids::{JobId, SessionId};
use crate::properties::RequirementId;

/// What is to be run; the same from the first day to the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The instance of the first operation that asked for it.
    pub instance: String,
    /// The pool of instances whose bots may run it and whose jobs it may be merged with.
    pub pool: String,
    /// The action's digest.
    #[serde(with = "digest_text")]
    pub action_digest: Digest,
    /// Whether the result may be kept and shared (`do_not_cache` is not set).
    pub cacheable: bool,
    /// Which bots can run it.
    pub requirement: RequirementId,
    /// The label of its platform, for metrics and queue limits.
    pub label: String,
    /// The flow it takes turns in: its invocation, or its client where it names none.
    pub flow: String,
    /// The action's own limit on its run time, in microseconds.
    pub timeout_micros: Option<i64>,
    /// The command line, for people.
    pub command: String,
    /// The platform's properties as the client gave them.
    pub platform: Vec<(String, String)>,
    /// The action's mnemonic (`CppCompile`), where the client named one.
    pub mnemonic: String,
    /// The tool that asked for it first, where it named itself.
    #[serde(default)]
    pub tool: String,
    /// Who asked for it first; empty where nobody had to say.
    #[serde(default)]
    pub subject: String,
    /// Bots that ran jobs with the same hint are preferred.
    pub locality: String,
}

/// Where a job is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Waiting for a bot.
    Queued,
    /// Given to a bot.
    Executing,
    /// Over; it never leaves this stage.
    Completed,
}

impl Stage {
    /// The number that stores keep: that of REAPI's `ExecutionStage`.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Queued => 2,
            Self::Executing => 3,
            Self::Completed => 4,
        }
    }
}

/// A bot's right to run a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The session it was given to.
    pub session: SessionId,
    /// That session's bot.
    pub bot_id: String,
    /// Which of the job's leases this is. Later leases have higher numbers: a fencing token.
    pub attempt: u32,
    /// Whether the bot has been seen to hold it.
    pub acknowledged: bool,
    /// The cohort whose quota it counts against; empty where the bot is in none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cohort: String,
}

/// How often a job failed, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The worker vanished while it held the lease.
    pub worker_lost: u32,
    /// The worker met a defect of its own.
    pub internal: u32,
    /// Something the worker needs was away.
    pub unavailable: u32,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A bot ran it (whatever the exit code), or the action cache had it: the encoded `ExecuteResponse`.
    Finished {
        /// The encoded response; shared by every watcher.
        #[serde(skip)]
        response: Bytes,
    },
    /// It could not be run.
    Failed {
        /// The kind of failure.
        #[serde(with = "code_number")]
        code: ErrorCode,
        /// For the client.
        message: String,
    },
}

/// What changes as a job goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// Where it is.
    pub stage: Stage,
    /// Smaller is sooner (REAPI, `ExecutionPolicy`).
    pub priority: i32,
    /// Its turn among its priority; zero for all where turns are not taken.
    pub turn: i64,
    /// How many leases it has been given.
    pub attempts: u32,
    /// How they failed.
    pub failures: Failures,
    /// The live lease: there exactly while the stage is `Executing`.
    pub lease: Option<Lease>,
    /// When it was accepted, by the store's clock.
    #[serde(with = "micros")]
    pub queued_at: Timestamp,
    /// When its newest lease was given.
    #[serde(with = "micros_opt", default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "micros_opt", default)]
    pub completed_at: Option<Timestamp>,
    /// How it ended: there exactly while the stage is `Completed`.
    pub outcome: Option<Outcome>,
    /// Until when someone is known to watch it.
    #[serde(with = "micros")]
    pub watched_until: Timestamp,
    /// The newest encoded `ExecutedActionMetadata` that the bot sent while running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<u8>,
    /// Log streams of the running command.
    #[serde(default)]
    pub streams: Streams,
    /// The declared pool of the bot that ran it last; empty where the bot named none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub worker_pool: String,
}

/// Names of a running command's log streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Where clients read standard output.
    pub stdout: String,
    /// Where clients read standard error.
    pub stderr: String,
    /// Where the worker writes standard output.
    pub stdout_write: String,
    /// Where the worker writes standard error.
    pub stderr_write: String,
}

/// One execution of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What is run.
    pub spec: JobSpec,
    /// The encoded `Action`: the payload of its leases.
    pub action: Bytes,
    /// How far it is.
    pub state: JobState,
    /// Leases that ended since it was loaded: stores write them with the state, and load none.
    pub ended: Vec<Run>,
    /// The log streams of those leases, which nobody writes any more: stores neither write nor load them.
    pub closed: Vec<Streams>,
}

impl JobSpec {
    /// What must be unique among incomplete jobs; `None` for a job that is never shared.
    #[must_use]
    pub fn merge_key(&self) -> Option<String> {
        let key = |d: &Digest| format!("{}\n{}\n{d}", self.pool, d.function().name());
        self.cacheable.then(|| key(&self.action_digest))
    }
}

impl Job {
    /// The key it occupies now: none once it is over.
    #[must_use]
    pub fn live_merge_key(&self) -> Option<String> {
        if self.state.stage == Stage::Completed { None } else { self.spec.merge_key() }
    }

    /// The session that holds its lease.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.state.lease.as_ref().map(|lease| lease.session)
    }
}

/// A digest as `FUNCTION:HASH/SIZE`.
mod digest_text {
    use super::{Deserialize, Deserializer, Digest, DigestFunction, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{}:{digest}", digest.function().name()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(d)?;
        let parsed = text.split_once(':').and_then(|(function, digest)| {
            Digest::parse_text(Some(DigestFunction::from_name(function)?), digest).ok()
        });
        parsed.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not FUNCTION:HASH/SIZE")))
    }
}

pub(crate) mod micros {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(at.0)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(d).map(Timestamp)
    }
}

pub(crate) mod micros_opt {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp};

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
        at.map(|t| t.0).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(d)?.map(Timestamp))
    }
}

/// An [`ErrorCode`] as the number of its gRPC status, which rows of every version understand.
mod code_number {
    use super::{Deserialize, Deserializer, ErrorCode, Serializer};

    const CODES: [(u8, ErrorCode); 16] = [
        (1, ErrorCode::Cancelled),
        (3, ErrorCode::InvalidArgument),
        (4, ErrorCode::DeadlineExceeded),
        (5, ErrorCode::NotFound),
        (6, ErrorCode::AlreadyExists),
        (7, ErrorCode::PermissionDenied),
        (8, ErrorCode::ResourceExhausted),
        (9, ErrorCode::FailedPrecondition),
        (10, ErrorCode::Aborted),
        (11, ErrorCode::OutOfRange),
        (12, ErrorCode::Unimplemented),
        (13, ErrorCode::Internal),
        (14, ErrorCode::Unavailable),
        (15, ErrorCode::DataLoss),
        (16, ErrorCode::Unauthenticated),
        (2, ErrorCode::Internal),
    ];

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(code: &ErrorCode, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(CODES.iter().find(|(_, c)| c == code).map_or(13, |(n, _)| *n))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<ErrorCode, D::Error> {
        let number = u8::deserialize(d)?;
        Ok(CODES.iter().find(|(n, _)| *n == number).map_or(ErrorCode::Internal, |(_, c)| *c))
    }
}
