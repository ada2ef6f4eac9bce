//! Declared pools, drains, and the sessions that they cover, within a transaction.

use std::collections::BTreeMap;

use grid_core::Timestamp;
use grid_scheduler::fleet::{Declaration, Drain, DrainTarget};
use grid_scheduler::session::Session;
use grid_scheduler::store::StoreResult;
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::error::map;
use crate::rows;

pub(super) async fn declarations(tx: &mut SqliteConnection) -> StoreResult<Vec<Declaration>> {
    let sql = "SELECT owner, revision, declared_at, pools FROM pool_owners ORDER BY owner";
    let rows = sqlx::query_as(sql).fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::declaration).collect()
}

pub(super) async fn save_declaration(
    tx: &mut SqliteConnection,
    declaration: &Declaration,
) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO pool_owners (owner, revision, declared_at, pools) VALUES (?, ?, ?, ?) \
         ON CONFLICT (owner) DO UPDATE SET revision = excluded.revision, \
         declared_at = excluded.declared_at, pools = excluded.pools",
    )
    .bind(&declaration.owner)
    .bind(i64::try_from(declaration.revision).unwrap_or(i64::MAX))
    .bind(declaration.declared_at.0)
    .bind(rows::encode(&declaration.pools)?)
    .execute(&mut *tx)
    .await
    .map(|_| ())
    .map_err(map)
}

pub(super) async fn drains(tx: &mut SqliteConnection) -> StoreResult<Vec<Drain>> {
    let sql = format!("SELECT {} FROM drains ORDER BY kind, target", rows::DRAIN);
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *tx).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::drain).collect())
}

pub(super) async fn save_drains(tx: &mut SqliteConnection, drains: &[Drain]) -> StoreResult<()> {
    for drain in drains {
        let (kind, target, reason, requested_at, deadline, returned) = rows::drain_row(drain)?;
        sqlx::query(
            "INSERT INTO drains (kind, target, reason, requested_at, deadline, returned) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, target) DO UPDATE \
             SET deadline = excluded.deadline, returned = excluded.returned",
        )
        .bind(kind)
        .bind(target)
        .bind(reason)
        .bind(requested_at)
        .bind(deadline)
        .bind(returned)
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    }
    Ok(())
}

pub(super) async fn delete_drains(tx: &mut SqliteConnection, targets: &[DrainTarget]) -> StoreResult<()> {
    for (kind, target) in targets.iter().map(rows::target) {
        sqlx::query("DELETE FROM drains WHERE kind = ? AND target = ?")
            .bind(kind)
            .bind(target)
            .execute(&mut *tx)
            .await
            .map_err(map)?;
    }
    Ok(())
}

pub(super) async fn lock_covered(
    tx: &mut SqliteConnection,
    targets: &[DrainTarget],
) -> StoreResult<Vec<Session>> {
    let mut found: BTreeMap<Uuid, Session> = BTreeMap::new();
    for (kind, target) in targets.iter().map(rows::target) {
        let condition = match kind {
            1 => "bot_id = ?",
            2 => "worker_pool = ?",
            _ => "node = ?",
        };
        let sql = format!("SELECT id, expires_at, body FROM sessions WHERE {condition}");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(target);
        for row in query.fetch_all(&mut *tx).await.map_err(map)? {
            let session = rows::session(row)?;
            found.insert(session.id.0, session);
        }
    }
    Ok(found.into_values().collect())
}

pub(super) async fn wake_pools(
    tx: &mut SqliteConnection,
    now: Timestamp,
    pools: &[String],
) -> StoreResult<()> {
    for pool in pools {
        sqlx::query(
            "INSERT INTO wakeups (pool, generation) VALUES (?, ?) \
             ON CONFLICT (pool) DO UPDATE SET generation = max(generation, excluded.generation)",
        )
        .bind(pool)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    }
    Ok(())
}
