//! Jobs are written, within a transaction.

use grid_scheduler::job::Job;
use grid_scheduler::store::StoreResult;
use sqlx::SqliteConnection;

use crate::error::map;
use crate::rows;

/// Inserts a job; says whether nothing stood in its way.
pub(super) async fn insert(tx: &mut SqliteConnection, job: &Job) -> StoreResult<bool> {
    let (c, s) = (rows::columns(job)?, rows::spec_columns(job)?);
    let done = sqlx::query(
        "INSERT INTO jobs (id, merge_key, requirement, stage, priority, turn, queued_at, session, started_at, \
         deadline, completed_at, watched_until, label, action_digest, command, platform, spec, action, state, \
         response, instance) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(c.id)
    .bind(c.merge_key)
    .bind(job.spec.requirement.0)
    .bind(c.stage)
    .bind(c.priority)
    .bind(c.turn)
    .bind(job.state.queued_at.0)
    .bind(c.session)
    .bind(c.started_at)
    .bind(c.deadline)
    .bind(c.completed_at)
    .bind(c.watched_until)
    .bind(s.label)
    .bind(s.action_digest)
    .bind(s.command)
    .bind(s.platform)
    .bind(s.spec)
    .bind(job.action.as_ref())
    .bind(c.state)
    .bind(c.response.as_deref())
    .bind(&job.spec.instance)
    .execute(tx)
    .await
    .map_err(map)?;
    Ok(done.rows_affected() == 1)
}

/// What is written of a job's state, after what is written first.
macro_rules! save_sql {
    ($first:literal) => {
        concat!(
            "UPDATE jobs SET ",
            $first,
            "stage = ?, priority = ?, turn = ?, session = ?, started_at = ?, deadline = ?, completed_at = ?, \
             watched_until = ?, state = ?, response = ?, worker_pool = ?, cohort = ? WHERE id = ?"
        )
    };
}

/// Writes the state of a job. Its merge key is written only where it ends: whatever names the column rewrites its place
/// in an index without any locality, and a long queue makes that dear.
pub(super) async fn save(tx: &mut SqliteConnection, job: &Job) -> StoreResult<()> {
    let c = rows::columns(job)?;
    let ends = c.merge_key.is_none() && job.spec.cacheable;
    sqlx::query(if ends { save_sql!("merge_key = NULL, ") } else { save_sql!("") })
        .bind(c.stage)
        .bind(c.priority)
        .bind(c.turn)
        .bind(c.session)
        .bind(c.started_at)
        .bind(c.deadline)
        .bind(c.completed_at)
        .bind(c.watched_until)
        .bind(c.state)
        .bind(c.response.as_deref())
        .bind(c.worker_pool)
        .bind(c.cohort)
        .bind(c.id)
        .execute(tx)
        .await
        .map(|_| ())
        .map_err(map)
}
