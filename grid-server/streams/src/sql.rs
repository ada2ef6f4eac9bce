//! One SQL text for both databases: `$1` places, `ON CONFLICT` and `RETURNING` mean the same to PostgreSQL and to
//! SQLite, so that only the pool's type differs.

/// Runs `$body` with `$pool` bound to the database's pool, whichever kind it is.
macro_rules! on {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            grid_scheduler_sql::Database::Postgres($pool) => $body,
            grid_scheduler_sql::Database::Sqlite($pool) => $body,
        }
    };
}
pub(crate) use on;

/// A count or offset as the databases keep it.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count or offset as the databases gave it; they hold none below zero.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
