//! A [`ListQuery`] as SQL. Names of columns come from tables here, values are always bound.

use grid_scheduler::SchedulerError;
use grid_scheduler::filter::{Comparison, Condition, Field, ListQuery, Value};
use grid_scheduler::store::StoreResult;
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::rows;

/// What the two dialects call things differently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// The function that finds one text in another, and gives 0 where it is not there.
    pub(crate) find: &'static str,
    /// What names the row's response column without reading it.
    no_response: &'static str,
}

pub(crate) const SQLITE: Dialect = Dialect { find: "instr", no_response: "NULL" };
pub(crate) const POSTGRES: Dialect = Dialect { find: "strpos", no_response: "NULL::bytea" };

/// The query, with the operation's columns before the job's.
pub(crate) fn query<DB>(query: &ListQuery, dialect: Dialect) -> StoreResult<QueryBuilder<DB>>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(rows::OPERATION);
    sql.push(format!(
        ", j.id, j.spec, j.action, j.state, {} AS response FROM operations o JOIN jobs j ON j.id = o.job \
         WHERE o.instance = ",
        dialect.no_response
    ));
    sql.push_bind(query.instance.clone());
    for condition in &query.filter.conditions {
        sql.push(" AND ");
        push_condition(&mut sql, condition, dialect)?;
    }
    let mut order: Vec<(Field, bool)> = query.filter.order.iter().map(|k| (k.field, k.descending)).collect();
    order.push((Field::Name, false));
    if !query.after.is_empty() {
        sql.push(" AND ");
        push_after(&mut sql, &order, &query.after)?;
    }
    sql.push(" ORDER BY ");
    for (index, (field, descending)) in order.iter().enumerate() {
        let (comma, direction) = (if index > 0 { ", " } else { "" }, if *descending { " DESC" } else { "" });
        sql.push(format!("{comma}{}{direction}", sorted(*field)));
    }
    sql.push(" LIMIT ");
    sql.push_bind(i64::from(query.limit));
    Ok(sql)
}

fn push_condition<DB>(sql: &mut QueryBuilder<DB>, condition: &Condition, dialect: Dialect) -> StoreResult<()>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    if let Value::Property { key, value } = &condition.value {
        let not = if condition.comparison == Comparison::NotEqual { "=" } else { ">" };
        sql.push(format!("{}(j.platform, ", dialect.find));
        sql.push_bind(format!("\n{key}:"));
        sql.push(format!(") > 0 AND {}(j.platform, ", dialect.find));
        sql.push_bind(format!("\n{key}:{value}\n"));
        sql.push(format!(") {not} 0"));
        return Ok(());
    }
    sql.push(format!("{} {} ", column(condition.field), symbol(condition.comparison)));
    push_value(sql, condition.field, &condition.value)
}

/// Rows after the last one of the page before: greater in the first key that differs.
fn push_after<DB>(sql: &mut QueryBuilder<DB>, order: &[(Field, bool)], after: &[Value]) -> StoreResult<()>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    if order.len() != after.len() {
        return Err(invalid("page_token", "it belongs to another filter or order"));
    }
    sql.push("(");
    for last in 0..order.len() {
        sql.push(if last > 0 { " OR (" } else { "(" });
        for (index, ((field, descending), value)) in order.iter().zip(after).take(last + 1).enumerate() {
            let comparison = match (index == last, descending) {
                (false, _) => "=",
                (true, false) => ">",
                (true, true) => "<",
            };
            let and = if index > 0 { " AND " } else { "" };
            sql.push(format!("{and}{} {comparison} ", sorted(*field)));
            push_value(sql, *field, value)?;
        }
        sql.push(")");
    }
    sql.push(")");
    Ok(())
}

fn push_value<DB>(sql: &mut QueryBuilder<DB>, field: Field, value: &Value) -> StoreResult<()>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    match (field, value) {
        (Field::Name, Value::Text(text)) => {
            let id = text
                .parse::<Uuid>()
                .map_err(|_| invalid("filter", &format!("name {text:?} is not a UUID")))?;
            sql.push_bind(id);
        }
        (_, Value::Text(text)) => {
            sql.push_bind(rows::clean(text));
        }
        (_, Value::Number(number)) => {
            sql.push_bind(*number);
        }
        (_, Value::Property { .. }) => return Err(invalid("filter", "a property can't be sorted by")),
    }
    Ok(())
}

fn column(field: Field) -> &'static str {
    match field {
        Field::Name => "o.id",
        Field::Stage => "j.stage",
        Field::Command => "j.command",
        Field::Platform => "j.platform",
        Field::ActionDigest => "j.action_digest",
        Field::InvocationId => "o.invocation_id",
        Field::CorrelatedInvocationsId => "o.correlated_invocations_id",
        Field::ToolName => "o.tool_name",
        Field::ToolVersion => "o.tool_version",
        Field::ActionMnemonic => "o.action_mnemonic",
        Field::TargetId => "o.target_id",
        Field::ConfigurationId => "o.configuration_id",
        Field::QueuedTime => "j.queued_at",
        Field::StartTime => "j.started_at",
        Field::CompletedTime => "j.completed_at",
        Field::ClientWorkflow => "o.client_workflow",
        Field::ClientActor => "o.client_actor",
        Field::ClientSubject => "o.client_subject",
    }
}

/// The column as it is sorted by: what has no time yet comes first.
fn sorted(field: Field) -> &'static str {
    match field {
        Field::StartTime => "coalesce(j.started_at, 0)",
        Field::CompletedTime => "coalesce(j.completed_at, 0)",
        other => column(other),
    }
}

fn symbol(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn invalid(field: &str, message: &str) -> SchedulerError {
    SchedulerError::Invalid { field: field.into(), message: message.into() }
}
