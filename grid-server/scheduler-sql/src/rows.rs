//! Rows and what they stand for: the one place that encodes and decodes them, for both databases.

use std::fmt::Write as _;

use bytes::Bytes;
use grid_core::Timestamp;
use grid_scheduler::SchedulerError;
use grid_scheduler::fleet::{Declaration, Drain, DrainTarget};
use grid_scheduler::ids::{JobId, OperationId, SessionId};
use grid_scheduler::job::{Job, Outcome, Stage};
use grid_scheduler::operation::{ClientIdentity, Operation, RequestMetadata};
use grid_scheduler::session::Session;
use grid_scheduler::store::StoreResult;
use uuid::Uuid;

pub(crate) mod history;
pub(crate) mod metadata;
pub(crate) mod quotas;
pub(crate) mod waits;

/// `id, spec, action, state, response`.
pub(crate) type JobRow = (Uuid, String, Vec<u8>, String, Option<Vec<u8>>);

/// The job of a row.
pub(crate) fn job((id, spec, action, state, response): JobRow) -> StoreResult<Job> {
    let corrupt =
        |error: serde_json::Error| SchedulerError::Corrupt { job: JobId(id), message: error.to_string() };
    let mut job = Job {
        id: JobId(id),
        spec: serde_json::from_str(&spec).map_err(corrupt)?,
        action: action.into(),
        state: serde_json::from_str(&state).map_err(corrupt)?,
        ended: Vec::new(),
        closed: Vec::new(),
    };
    if let (Some(Outcome::Finished { response: empty }), Some(full)) = (&mut job.state.outcome, response) {
        *empty = full.into();
    }
    Ok(job)
}

/// What a job's row holds beside its documents, for keys, orders and filters.
#[derive(Clone, Debug)]
pub(crate) struct JobColumns {
    pub(crate) id: Uuid,
    pub(crate) merge_key: Option<String>,
    pub(crate) stage: i16,
    pub(crate) priority: i32,
    pub(crate) turn: i64,
    pub(crate) session: Option<Uuid>,
    pub(crate) started_at: Option<i64>,
    pub(crate) deadline: Option<i64>,
    pub(crate) completed_at: Option<i64>,
    pub(crate) watched_until: i64,
    pub(crate) worker_pool: String,
    pub(crate) cohort: String,
    pub(crate) state: String,
    pub(crate) response: Option<Bytes>,
}

/// The columns that change with a job's state.
pub(crate) fn columns(job: &Job) -> StoreResult<JobColumns> {
    let state = &job.state;
    let running = state.stage == Stage::Executing;
    let deadline = state.started_at.zip(job.spec.timeout_micros).filter(|_| running);
    Ok(JobColumns {
        id: job.id.0,
        merge_key: job.live_merge_key(),
        stage: state.stage.number(),
        priority: state.priority,
        turn: state.turn,
        session: job.session().map(|s| s.0),
        started_at: state.started_at.map(|t| t.0),
        deadline: deadline.map(|(start, timeout)| start.0.saturating_add(timeout)),
        completed_at: state.completed_at.map(|t| t.0),
        watched_until: state.watched_until.0,
        worker_pool: clean(&state.worker_pool),
        cohort: state.lease.as_ref().map(|lease| lease.cohort.clone()).unwrap_or_default(),
        state: encode(state)?,
        response: match &state.outcome {
            Some(Outcome::Finished { response }) => Some(response.clone()),
            Some(Outcome::Failed { .. }) | None => None,
        },
    })
}

/// The columns that stay with a job from its first day.
#[derive(Clone, Debug)]
pub(crate) struct SpecColumns {
    pub(crate) label: String,
    pub(crate) action_digest: String,
    pub(crate) command: String,
    pub(crate) platform: String,
    pub(crate) spec: String,
}

pub(crate) fn spec_columns(job: &Job) -> StoreResult<SpecColumns> {
    let mut platform = String::from("\n");
    for (key, value) in &job.spec.platform {
        let line = |text: &str| clean(text).replace('\n', " ");
        // Writing to a string can't fail.
        let _ = writeln!(platform, "{}:{}", line(key), line(value));
    }
    Ok(SpecColumns {
        label: clean(&job.spec.label),
        action_digest: job.spec.action_digest.to_string(),
        command: clean(&job.spec.command),
        platform,
        spec: encode(&job.spec)?,
    })
}

/// `id, job, instance, cancelled, created_at`, then what a filter can ask for, in the table's order.
pub(crate) type OperationRow = (
    (Uuid, Uuid, String, bool, i64),
    (String, String, String, String, String, String, String, String),
    (String, String, String),
);

/// The operation's columns, in the order of [`OperationRow`].
pub(crate) const OPERATION: &str = "o.id, o.job, o.instance, o.cancelled, o.created_at, o.tool_name, \
     o.tool_version, o.action_id, o.invocation_id, o.correlated_invocations_id, o.action_mnemonic, o.target_id, \
     o.configuration_id, o.client_workflow, o.client_actor, o.client_subject";

/// How many columns [`OPERATION`] has.
pub(crate) const OPERATION_WIDTH: usize = 16;

pub(crate) fn operation((head, tool, client): OperationRow) -> Operation {
    let (id, job, instance, cancelled, created_at) = head;
    Operation {
        id: OperationId(id),
        job: JobId(job),
        instance,
        cancelled,
        created_at: Timestamp(created_at),
        client: ClientIdentity { workflow: client.0, actor: client.1, subject: client.2 },
        metadata: RequestMetadata {
            tool_name: tool.0,
            tool_version: tool.1,
            action_id: tool.2,
            invocation_id: tool.3,
            correlated_invocations_id: tool.4,
            action_mnemonic: tool.5,
            target_id: tool.6,
            configuration_id: tool.7,
        },
    }
}

/// Decodes an operation's columns from `offset` on.
macro_rules! operation_at {
    ($row:expr, $offset:expr) => {{
        use sqlx::Row as _;
        let (row, at) = ($row, $offset);
        sqlx::Result::Ok((
            (
                row.try_get(at)?,
                row.try_get(at + 1)?,
                row.try_get(at + 2)?,
                row.try_get(at + 3)?,
                row.try_get(at + 4)?,
            ),
            (
                row.try_get(at + 5)?,
                row.try_get(at + 6)?,
                row.try_get(at + 7)?,
                row.try_get(at + 8)?,
                row.try_get(at + 9)?,
                row.try_get(at + 10)?,
                row.try_get(at + 11)?,
                row.try_get(at + 12)?,
            ),
            (row.try_get(at + 13)?, row.try_get(at + 14)?, row.try_get(at + 15)?),
        ))
    }};
}
pub(crate) use operation_at;

pub(crate) fn session((id, expires_at, body): (Uuid, i64, String)) -> StoreResult<Session> {
    let mut session: Session = serde_json::from_str(&body).map_err(|e| {
        SchedulerError::Internal(format!("session {id} is damaged or of a newer version: {e}"))
    })?;
    session.id = SessionId(id);
    session.expires_at = Timestamp(expires_at);
    Ok(session)
}

/// `owner, revision, declared_at, pools`.
pub(crate) type DeclarationRow = (String, i64, i64, String);

pub(crate) fn declaration((owner, revision, at, pools): DeclarationRow) -> StoreResult<Declaration> {
    let pools = serde_json::from_str(&pools).map_err(|e| {
        SchedulerError::Internal(format!("the pools of {owner:?} are damaged or of a newer version: {e}"))
    })?;
    let revision = u64::try_from(revision).unwrap_or(0);
    Ok(Declaration { owner, revision, declared_at: Timestamp(at), pools })
}

/// `kind, target, reason, requested_at, deadline, returned`.
pub(crate) type DrainRow = (i16, String, String, i64, i64, i64);

/// The columns of [`DrainRow`].
pub(crate) const DRAIN: &str = "kind, target, reason, requested_at, deadline, returned";

pub(crate) fn drain((kind, target, reason, requested_at, deadline, returned): DrainRow) -> Drain {
    let target = match kind {
        1 => DrainTarget::Bot(target),
        2 => DrainTarget::Pool(target),
        _ => DrainTarget::Node(target),
    };
    Drain {
        target,
        // A reason of a newer version is for people only.
        reason: serde_json::from_str(&reason).unwrap_or_default(),
        requested_at: Timestamp(requested_at),
        deadline: Timestamp(deadline),
        returned: u64::try_from(returned).unwrap_or(0),
    }
}

/// A target's columns `kind, target`.
pub(crate) fn target(target: &DrainTarget) -> (i16, String) {
    match target {
        DrainTarget::Bot(name) => (1, clean(name)),
        DrainTarget::Pool(name) => (2, clean(name)),
        DrainTarget::Node(name) => (3, clean(name)),
    }
}

pub(crate) fn drain_row(drain: &Drain) -> StoreResult<DrainRow> {
    let (kind, name) = target(&drain.target);
    let returned = i64::try_from(drain.returned).unwrap_or(i64::MAX);
    Ok((kind, name, encode(&drain.reason)?, drain.requested_at.0, drain.deadline.0, returned))
}

/// The names among targets, by kind: bots, pools, nodes.
pub(crate) fn names(targets: &[DrainTarget]) -> [Vec<String>; 3] {
    let of =
        |kind: i16| targets.iter().map(target).filter(|(k, _)| *k == kind).map(|(_, name)| name).collect();
    [of(1), of(2), of(3)]
}

/// `id, expires_at, body`, and the number of leases.
pub(crate) type BotRow = (Uuid, i64, String, i64);

pub(crate) fn bot((id, expires_at, body, leases): BotRow) -> StoreResult<(Session, u32)> {
    Ok((session((id, expires_at, body))?, u32::try_from(leases).unwrap_or(u32::MAX)))
}

/// Every session with the number of its leases.
pub(crate) const BOTS: &str = "SELECT s.id, s.expires_at, s.body, count(j.id) FROM sessions s \
     LEFT JOIN jobs j ON j.session = s.id AND j.stage = 3 GROUP BY s.id ORDER BY s.id";

/// Requirements that nobody asked for since the first parameter and that no job waits or runs with.
macro_rules! forget_requirements_sql {
    ($before:literal) => {
        concat!(
            "DELETE FROM requirements WHERE used_at < ",
            $before,
            " AND id NOT IN (SELECT requirement FROM jobs WHERE stage IN (2, 3))"
        )
    };
}
pub(crate) use forget_requirements_sql;

/// Flows that are behind their clock: they would start at the clock all the same.
pub(crate) const FORGET_TURNS: &str = "DELETE FROM turns WHERE flow <> '' AND turn <= (SELECT c.turn FROM turns c \
     WHERE c.pool = turns.pool AND c.priority = turns.priority AND c.flow = '')";

/// A document as its column holds it.
pub(crate) fn encode<T: serde::Serialize>(value: &T) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|e| SchedulerError::Internal(e.to_string()))
}

/// Text that PostgreSQL takes: it has no NUL.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
