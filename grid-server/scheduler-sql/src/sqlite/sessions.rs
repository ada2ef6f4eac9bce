//! Bots' sessions, within a transaction.

use grid_core::Timestamp;
use grid_scheduler::ids::SessionId;
use grid_scheduler::session::Session;
use grid_scheduler::store::StoreResult;
use sqlx::SqliteConnection;

use crate::error::map;
use crate::rows;

pub(super) async fn save_sessions(tx: &mut SqliteConnection, sessions: &[Session]) -> StoreResult<()> {
    for session in sessions {
        sqlx::query(
            "INSERT INTO sessions (id, pool, bot_id, expires_at, body, worker_pool, node) \
             VALUES (?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body",
        )
        .bind(session.id.0)
        .bind(&session.pool)
        .bind(&session.bot_id)
        .bind(session.expires_at.0)
        .bind(rows::encode(session)?)
        .bind(&session.worker_pool)
        .bind(&session.node)
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    }
    Ok(())
}

pub(super) async fn lock_sessions(tx: &mut SqliteConnection, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
    let mut found = Vec::new();
    for id in ids {
        let row = sqlx::query_as("SELECT id, expires_at, body FROM sessions WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(map)?;
        found.extend(row.map(rows::session).transpose()?);
    }
    Ok(found)
}

pub(super) async fn lock_bot(
    tx: &mut SqliteConnection,
    pool: &str,
    bot_id: &str,
) -> StoreResult<Vec<Session>> {
    sqlx::query_as("SELECT id, expires_at, body FROM sessions WHERE pool = ? AND bot_id = ?")
        .bind(pool)
        .bind(bot_id)
        .fetch_all(&mut *tx)
        .await
        .map_err(map)?
        .into_iter()
        .map(rows::session)
        .collect()
}

pub(super) async fn lock_expired(
    tx: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> StoreResult<Vec<Session>> {
    sqlx::query_as("SELECT id, expires_at, body FROM sessions WHERE expires_at < ? LIMIT ?")
        .bind(now.0)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await
        .map_err(map)?
        .into_iter()
        .map(rows::session)
        .collect()
}
