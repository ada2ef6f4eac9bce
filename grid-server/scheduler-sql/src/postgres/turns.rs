//! Turns of flows, within a transaction.

use grid_scheduler::SchedulerError;
use grid_scheduler::store::{FlowKey, StoreResult};
use sqlx::PgConnection;

use crate::error::map;

const TAKE_TURNS: &str = "INSERT INTO turns AS t (pool, priority, flow, turn, taken) \
     SELECT f.pool, f.priority, f.flow, f.taken + coalesce((SELECT c.turn FROM turns c \
     WHERE c.pool = f.pool AND c.priority = f.priority AND c.flow = ''), 0), f.taken \
     FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[]) AS f (pool, priority, flow, taken) \
     ON CONFLICT (pool, priority, flow) DO UPDATE SET taken = excluded.taken, \
     turn = greatest(t.turn, excluded.turn - excluded.taken) + excluded.taken \
     RETURNING pool, priority, flow, turn";
const SERVE_TURNS: &str = "INSERT INTO turns AS t (pool, priority, flow, turn, taken) \
     SELECT f.pool, f.priority, '', f.turn, 0 \
     FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS f (pool, priority, turn) \
     ON CONFLICT (pool, priority, flow) DO UPDATE SET turn = greatest(t.turn, excluded.turn)";

pub(super) async fn take_turns(
    tx: &mut PgConnection,
    flows: &[(FlowKey, u32)],
    step: i64,
) -> StoreResult<Vec<i64>> {
    let taken = flows.iter().map(|(_, count)| step.saturating_mul(i64::from(*count)));
    let rows: Vec<(String, i32, String, i64)> = sqlx::query_as(TAKE_TURNS)
        .bind(flows.iter().map(|(key, _)| key.pool.as_str()).collect::<Vec<_>>())
        .bind(flows.iter().map(|(key, _)| key.priority).collect::<Vec<_>>())
        .bind(flows.iter().map(|(key, _)| key.flow.as_str()).collect::<Vec<_>>())
        .bind(taken.collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await
        .map_err(map)?;
    let turn = |(key, _): &(FlowKey, u32)| {
        let row = rows.iter().find(|r| r.0 == key.pool && r.1 == key.priority && r.2 == key.flow);
        row.map(|r| r.3).ok_or_else(|| SchedulerError::Internal("a flow got no turn".into()))
    };
    flows.iter().map(turn).collect()
}

pub(super) async fn serve_turns(tx: &mut PgConnection, clocks: &[(FlowKey, i64)]) -> StoreResult<()> {
    sqlx::query(SERVE_TURNS)
        .bind(clocks.iter().map(|(key, _)| key.pool.as_str()).collect::<Vec<_>>())
        .bind(clocks.iter().map(|(key, _)| key.priority).collect::<Vec<_>>())
        .bind(clocks.iter().map(|(_, turn)| *turn).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map(|_| ())
        .map_err(map)
}
