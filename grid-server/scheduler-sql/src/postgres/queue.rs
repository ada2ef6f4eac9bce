//! The look at the queue that claims make.

use grid_scheduler::job::Job;
use grid_scheduler::store::{Order, StoreResult, Want};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::map;
use crate::rows::{self, JobRow};

/// Locks the first queued jobs of each want, in no order, and leaves out those that another transaction holds.
pub(super) async fn lock(tx: &mut PgConnection, wants: &[Want], order: Order) -> StoreResult<Vec<Job>> {
    let query = sqlx::query_as(AssertSqlSafe(sql(wants, order)))
        .bind(wants.iter().map(|want| want.requirement.0).collect::<Vec<_>>())
        .bind(wants.iter().map(|want| i64::from(want.most)).collect::<Vec<_>>())
        .bind(wants.iter().map(|want| want.only.as_deref().map(lines)).collect::<Vec<_>>())
        .bind(wants.iter().map(|want| lines(&want.except)).collect::<Vec<_>>());
    let rows: Vec<JobRow> = query.fetch_all(tx).await.map_err(map)?;
    rows.into_iter().map(rows::job).collect()
}

/// Instances are only spoken of where a want does: all others have the plain statement, whose plan is known to be good.
fn sql(wants: &[Want], order: Order) -> String {
    let order = match order {
        Order::Turn => "priority, turn, queued_at, id",
        Order::Age => "queued_at, id",
    };
    let all = wants.iter().all(|want| want.only.is_none() && want.except.is_empty());
    let instances = if all {
        ""
    } else {
        "AND (w.named IS NULL OR '/' || instance = ANY(string_to_array(w.named, chr(10)))) \
         AND '/' || instance <> ALL(string_to_array(w.barred, chr(10)))"
    };
    format!(
        "SELECT j.id, j.spec, j.action, j.state, NULL::bytea \
         FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS w (requirement, most, named, barred) \
         CROSS JOIN LATERAL (SELECT id, spec, action, state FROM jobs WHERE stage = 2 \
         AND requirement = w.requirement {instances} ORDER BY {order} LIMIT w.most FOR UPDATE SKIP LOCKED) j"
    )
}

/// Instances as lines that are never empty: an array of arrays must not be ragged.
fn lines(instances: &[String]) -> String {
    instances.iter().map(|instance| format!("/{instance}")).collect::<Vec<_>>().join("\n")
}
