//! What clients told of their requests, by value.

use grid_scheduler::metadata::{Summary, SummaryQuery, Values, ValuesQuery};
use grid_scheduler::store::StoreResult;
use sqlx::{AssertSqlSafe, SqlitePool};

use crate::error::map;
use crate::list::SQLITE;
use crate::rows;
use crate::rows::metadata::{self as told, CountsRow, ToldRow, ValueRow};

pub(super) async fn values(pool: &SqlitePool, query: &ValuesQuery) -> StoreResult<Values> {
    let rows: Vec<ValueRow> = sqlx::query_as(AssertSqlSafe(told::values_sql(query.field, SQLITE)))
        .bind(rows::clean(&query.instance))
        .bind(rows::clean(&query.part))
        .bind(i64::from(query.limit))
        .bind(i64::try_from(query.skip).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await
        .map_err(map)?;
    Ok(told::values(rows))
}

pub(super) async fn summary(pool: &SqlitePool, query: &SummaryQuery) -> StoreResult<Summary> {
    let (instance, value) = (rows::clean(&query.instance), rows::clean(&query.value));
    let counts: CountsRow = sqlx::query_as(AssertSqlSafe(told::counts_sql(query.field)))
        .bind(&instance)
        .bind(&value)
        .fetch_one(pool)
        .await
        .map_err(map)?;
    let rows: Vec<ToldRow> = sqlx::query_as(AssertSqlSafe(told::told_sql(query.field)))
        .bind(&instance)
        .bind(&value)
        .bind(i64::from(query.limit))
        .fetch_all(pool)
        .await
        .map_err(map)?;
    Ok(told::summary(counts, rows))
}
