//! Operations, within a transaction.

use grid_scheduler::ids::{JobId, OperationId};
use grid_scheduler::operation::Operation;
use grid_scheduler::store::StoreResult;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::read;
use crate::error::map;
use crate::rows;

const INSERT_OPERATIONS: &str = "INSERT INTO operations (id, job, instance, cancelled, created_at, tool_name, \
     tool_version, action_id, invocation_id, correlated_invocations_id, action_mnemonic, target_id, \
     configuration_id, client_workflow, client_actor, client_subject) SELECT * FROM unnest($1::uuid[], \
     $2::uuid[], $3::text[], $4::boolean[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], \
     $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[]) \
     ON CONFLICT DO NOTHING";

pub(super) async fn insert_operations(tx: &mut PgConnection, operations: &[Operation]) -> StoreResult<()> {
    let texts = |get: fn(&Operation) -> &String| -> Vec<&str> {
        operations.iter().map(|o| get(o).as_str()).collect()
    };
    sqlx::query(INSERT_OPERATIONS)
        .bind(operations.iter().map(|o| o.id.0).collect::<Vec<_>>())
        .bind(operations.iter().map(|o| o.job.0).collect::<Vec<_>>())
        .bind(texts(|o| &o.instance))
        .bind(operations.iter().map(|o| o.cancelled).collect::<Vec<_>>())
        .bind(operations.iter().map(|o| o.created_at.0).collect::<Vec<_>>())
        .bind(texts(|o| &o.metadata.tool_name))
        .bind(texts(|o| &o.metadata.tool_version))
        .bind(texts(|o| &o.metadata.action_id))
        .bind(texts(|o| &o.metadata.invocation_id))
        .bind(texts(|o| &o.metadata.correlated_invocations_id))
        .bind(texts(|o| &o.metadata.action_mnemonic))
        .bind(texts(|o| &o.metadata.target_id))
        .bind(texts(|o| &o.metadata.configuration_id))
        .bind(texts(|o| &o.client.workflow))
        .bind(texts(|o| &o.client.actor))
        .bind(texts(|o| &o.client.subject))
        .execute(&mut *tx)
        .await
        .map(|_| ())
        .map_err(map)
}

pub(super) async fn lock_operations(tx: &mut PgConnection, jobs: &[JobId]) -> StoreResult<Vec<Operation>> {
    let sql = format!(
        "SELECT {} FROM operations o WHERE o.job = ANY($1) ORDER BY o.id FOR UPDATE",
        rows::OPERATION
    );
    let ids: Vec<Uuid> = jobs.iter().map(|id| id.0).collect();
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(&mut *tx).await.map_err(map)?;
    rows.iter().map(|row| read::operation_row(row, 0).map(rows::operation).map_err(map)).collect()
}

pub(super) async fn jobs_of(
    tx: &mut PgConnection,
    operations: &[OperationId],
) -> StoreResult<Vec<(OperationId, JobId)>> {
    let ids: Vec<Uuid> = operations.iter().map(|id| id.0).collect();
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as("SELECT id, job FROM operations WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(&mut *tx)
        .await
        .map_err(map)?;
    Ok(rows.into_iter().map(|(id, job)| (OperationId(id), JobId(job))).collect())
}
