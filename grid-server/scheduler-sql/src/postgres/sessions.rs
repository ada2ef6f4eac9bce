//! Bots' sessions, within a transaction.

use grid_core::Timestamp;
use grid_scheduler::ids::SessionId;
use grid_scheduler::session::Session;
use grid_scheduler::store::StoreResult;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::map;
use crate::rows;

pub(super) async fn save_sessions(tx: &mut PgConnection, sessions: &[Session]) -> StoreResult<()> {
    if sessions.is_empty() {
        return Ok(());
    }
    let bodies = sessions.iter().map(rows::encode).collect::<StoreResult<Vec<_>>>()?;
    sqlx::query(
        "INSERT INTO sessions (id, pool, bot_id, expires_at, body, worker_pool, node) SELECT * FROM \
         unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[]) \
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body",
    )
    .bind(sessions.iter().map(|s| s.id.0).collect::<Vec<_>>())
    .bind(sessions.iter().map(|s| s.pool.as_str()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|s| s.bot_id.as_str()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|s| s.expires_at.0).collect::<Vec<_>>())
    .bind(bodies)
    .bind(sessions.iter().map(|s| s.worker_pool.as_str()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|s| s.node.as_str()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await
    .map(|_| ())
    .map_err(map)
}

pub(super) async fn lock_sessions(tx: &mut PgConnection, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
    let sql = "SELECT id, expires_at, body FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query_as(sql).bind(ids).fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::session).collect()
}

pub(super) async fn lock_bot(tx: &mut PgConnection, pool: &str, bot_id: &str) -> StoreResult<Vec<Session>> {
    // Two sessions of one bot at once: the second waits, and then finds the first.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("{pool}\n{bot_id}"))
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    let sql =
        "SELECT id, expires_at, body FROM sessions WHERE pool = $1 AND bot_id = $2 ORDER BY id FOR UPDATE";
    let rows = sqlx::query_as(sql).bind(pool).bind(bot_id).fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::session).collect()
}

pub(super) async fn lock_expired(
    tx: &mut PgConnection,
    now: Timestamp,
    limit: u32,
) -> StoreResult<Vec<Session>> {
    let sql = "SELECT id, expires_at, body FROM sessions WHERE expires_at < $1 LIMIT $2 \
               FOR UPDATE SKIP LOCKED";
    let query = sqlx::query_as(sql).bind(now.0).bind(i64::from(limit));
    let rows = query.fetch_all(&mut *tx).await.map_err(map)?;
    rows.into_iter().map(rows::session).collect()
}
