//! Turns of flows, within a transaction.

use grid_scheduler::store::{FlowKey, StoreResult};
use sqlx::SqliteConnection;

use crate::error::map;

pub(super) async fn take_turns(
    tx: &mut SqliteConnection,
    flows: &[(FlowKey, u32)],
    step: i64,
) -> StoreResult<Vec<i64>> {
    let mut turns = Vec::with_capacity(flows.len());
    for (key, count) in flows {
        let taken = step.saturating_mul(i64::from(*count));
        let (turn,): (i64,) = sqlx::query_as(
            "INSERT INTO turns (pool, priority, flow, turn, taken) VALUES (?1, ?2, ?3, ?4 + coalesce( \
             (SELECT turn FROM turns WHERE pool = ?1 AND priority = ?2 AND flow = ''), 0), ?4) \
             ON CONFLICT (pool, priority, flow) DO UPDATE SET taken = excluded.taken, \
             turn = max(turns.turn, excluded.turn - excluded.taken) + excluded.taken RETURNING turn",
        )
        .bind(&key.pool)
        .bind(key.priority)
        .bind(&key.flow)
        .bind(taken)
        .fetch_one(&mut *tx)
        .await
        .map_err(map)?;
        turns.push(turn);
    }
    Ok(turns)
}

pub(super) async fn serve_turns(tx: &mut SqliteConnection, clocks: &[(FlowKey, i64)]) -> StoreResult<()> {
    for (key, turn) in clocks {
        sqlx::query(
            "INSERT INTO turns (pool, priority, flow, turn, taken) VALUES (?, ?, '', ?, 0) \
             ON CONFLICT (pool, priority, flow) DO UPDATE SET turn = max(turns.turn, excluded.turn)",
        )
        .bind(&key.pool)
        .bind(key.priority)
        .bind(turn)
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    }
    Ok(())
}
