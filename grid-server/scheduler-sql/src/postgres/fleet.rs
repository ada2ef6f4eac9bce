//! Declared pools, drains, and the sessions that they cover, within a transaction.

use grid_core::Timestamp;
use grid_scheduler::fleet::{Declaration, Drain, DrainTarget};
use grid_scheduler::session::Session;
use grid_scheduler::store::StoreResult;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::map;
use crate::rows;

pub(super) async fn declarations(tx: &mut PgConnection) -> StoreResult<Vec<Declaration>> {
    let sql = "SELECT owner, revision, declared_at, pools FROM pool_owners ORDER BY owner";
    let rows = sqlx::query_as(sql).fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::declaration).collect()
}

pub(super) async fn save_declaration(tx: &mut PgConnection, declaration: &Declaration) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO pool_owners (owner, revision, declared_at, pools) VALUES ($1, $2, $3, $4) \
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

pub(super) async fn drains(tx: &mut PgConnection) -> StoreResult<Vec<Drain>> {
    let sql = format!("SELECT {} FROM drains ORDER BY kind, target", rows::DRAIN);
    let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::drain).collect())
}

pub(super) async fn save_drains(tx: &mut PgConnection, drains: &[Drain]) -> StoreResult<()> {
    for drain in drains {
        let (kind, target, reason, requested_at, deadline, returned) = rows::drain_row(drain)?;
        sqlx::query(
            "INSERT INTO drains (kind, target, reason, requested_at, deadline, returned) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, target) DO UPDATE \
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

pub(super) async fn delete_drains(tx: &mut PgConnection, targets: &[DrainTarget]) -> StoreResult<()> {
    let (kinds, names): (Vec<i16>, Vec<String>) = targets.iter().map(rows::target).unzip();
    sqlx::query(
        "DELETE FROM drains USING unnest($1::smallint[], $2::text[]) AS t (kind, target) \
         WHERE drains.kind = t.kind AND drains.target = t.target",
    )
    .bind(kinds)
    .bind(names)
    .execute(&mut *tx)
    .await
    .map(|_| ())
    .map_err(map)
}

pub(super) async fn lock_covered(
    tx: &mut PgConnection,
    targets: &[DrainTarget],
) -> StoreResult<Vec<Session>> {
    let [bots, pools, nodes] = rows::names(targets);
    let sql = "SELECT id, expires_at, body FROM sessions WHERE bot_id = ANY($1) OR worker_pool = ANY($2) \
               OR node = ANY($3) ORDER BY id FOR UPDATE";
    let query = sqlx::query_as(sql).bind(bots).bind(pools).bind(nodes);
    let rows = query.fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::session).collect()
}

pub(super) async fn wake_pools(tx: &mut PgConnection, now: Timestamp, pools: &[String]) -> StoreResult<()> {
    let mut pools = pools.to_vec();
    pools.sort();
    sqlx::query(
        "INSERT INTO wakeups AS w (pool, generation) SELECT p, $2 FROM unnest($1::text[]) AS p \
         ON CONFLICT (pool) DO UPDATE SET generation = greatest(w.generation, excluded.generation)",
    )
    .bind(pools)
    .bind(now.0)
    .execute(&mut *tx)
    .await
    .map(|_| ())
    .map_err(map)
}
