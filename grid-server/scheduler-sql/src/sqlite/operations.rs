//! Operations, within a transaction.

use grid_scheduler::ids::{JobId, OperationId};
use grid_scheduler::operation::Operation;
use grid_scheduler::store::StoreResult;
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::error::map;
use crate::rows;

pub(super) async fn insert_operations(
    tx: &mut SqliteConnection,
    operations: &[Operation],
) -> StoreResult<()> {
    for o in operations {
        let (tool, client) = (&o.metadata, &o.client);
        sqlx::query(
            "INSERT INTO operations (id, job, instance, cancelled, created_at, tool_name, tool_version, \
             action_id, invocation_id, correlated_invocations_id, action_mnemonic, target_id, \
             configuration_id, client_workflow, client_actor, client_subject) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(o.id.0)
        .bind(o.job.0)
        .bind(&o.instance)
        .bind(o.cancelled)
        .bind(o.created_at.0)
        .bind(&tool.tool_name)
        .bind(&tool.tool_version)
        .bind(&tool.action_id)
        .bind(&tool.invocation_id)
        .bind(&tool.correlated_invocations_id)
        .bind(&tool.action_mnemonic)
        .bind(&tool.target_id)
        .bind(&tool.configuration_id)
        .bind(&client.workflow)
        .bind(&client.actor)
        .bind(&client.subject)
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    }
    Ok(())
}

pub(super) async fn lock_operations(
    tx: &mut SqliteConnection,
    jobs: &[JobId],
) -> StoreResult<Vec<Operation>> {
    let sql = format!("SELECT {} FROM operations o WHERE o.job = ?", rows::OPERATION);
    let mut found = Vec::new();
    for job in jobs {
        let query = sqlx::query(sqlx::AssertSqlSafe(sql.as_str())).bind(job.0);
        for row in query.fetch_all(&mut *tx).await.map_err(map)? {
            found.push(rows::operation(super::read::operation_row(&row, 0).map_err(map)?));
        }
    }
    Ok(found)
}

pub(super) async fn jobs_of(
    tx: &mut SqliteConnection,
    operations: &[OperationId],
) -> StoreResult<Vec<(OperationId, JobId)>> {
    let mut found = Vec::new();
    for id in operations {
        let job: Option<(Uuid,)> = sqlx::query_as("SELECT job FROM operations WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(map)?;
        found.extend(job.map(|(job,)| (*id, JobId(job))));
    }
    Ok(found)
}
