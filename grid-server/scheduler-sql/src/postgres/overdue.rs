//! Jobs whose time is up, within a transaction. Rows that another sweep holds are left out.

use grid_core::Timestamp;
use grid_scheduler::job::Job;
use grid_scheduler::store::{Overdue, StoreResult};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::map;
use crate::rows::{self, JobRow};

pub(super) async fn lock(
    tx: &mut PgConnection,
    overdue: Overdue,
    now: Timestamp,
    limit: u32,
) -> StoreResult<Vec<Job>> {
    let with_requirement;
    let (condition, instances, before) = match overdue {
        Overdue::Executing(since) => ("stage = 3 AND started_at", Vec::new(), since),
        Overdue::OwnTimeout(grace) => {
            ("stage = 3 AND deadline IS NOT NULL AND deadline", Vec::new(), now.before(grace))
        }
        Overdue::Queued(instances, since) => ("stage = 2 AND queued_at", instances, since),
        Overdue::QueuedWith(requirement, since) => {
            // An identifier is digits and dashes.
            with_requirement = format!("stage = 2 AND requirement = '{}' AND queued_at", requirement.0);
            (with_requirement.as_str(), Vec::new(), since)
        }
        Overdue::Unwatched(since) => ("stage IN (2, 3) AND watched_until", Vec::new(), since),
    };
    let sql = format!(
        "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE {condition} < $1 \
         AND (cardinality($3::text[]) = 0 OR instance = ANY($3)) LIMIT $2 FOR UPDATE SKIP LOCKED"
    );
    let query = sqlx::query_as(AssertSqlSafe(sql)).bind(before.0).bind(i64::from(limit)).bind(instances);
    let rows: Vec<JobRow> = query.fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::job).collect()
}
