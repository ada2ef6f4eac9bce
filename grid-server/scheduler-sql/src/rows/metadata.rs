//! What clients told of their requests, as it is read: the statements, which both dialects have in common, and the rows.
//!
//! Names of columns come from [`column`]; values are always bound.

use grid_core::Timestamp;
use grid_scheduler::metadata::{MetadataField, Summary, Values};
use grid_scheduler::operation::RequestMetadata;

use crate::list::Dialect;

/// How many values there are, and one of the page; none where the page is past them.
pub(crate) type ValueRow = (i64, Option<String>);
/// Queued, executing, completed, the first that was queued and the last that was completed.
pub(crate) type CountsRow = (i64, i64, i64, Option<i64>, Option<i64>);
/// In the order of [`told_sql`].
pub(crate) type ToldRow = (String, String, String, String, String, String, String);

const fn column(field: MetadataField) -> &'static str {
    match field {
        MetadataField::InvocationId => "o.invocation_id",
        MetadataField::CorrelatedInvocationsId => "o.correlated_invocations_id",
        MetadataField::ToolName => "o.tool_name",
        MetadataField::ToolVersion => "o.tool_version",
        MetadataField::ActionMnemonic => "o.action_mnemonic",
        MetadataField::TargetId => "o.target_id",
        MetadataField::ConfigurationId => "o.configuration_id",
    }
}

/// Of this instance and with this in it, at most so many, after so many.
pub(crate) fn values_sql(field: MetadataField, dialect: Dialect) -> String {
    let (column, find) = (column(field), dialect.find);
    format!(
        "WITH found AS (SELECT DISTINCT {column} AS value FROM operations o WHERE o.instance = $1 AND {column} <> '' \
         AND ($2 = '' OR {find}(lower({column}), lower($2)) > 0)), \
         page AS (SELECT value FROM found ORDER BY value LIMIT $3 OFFSET $4) \
         SELECT (SELECT count(*) FROM found), page.value FROM (SELECT 1) AS one LEFT JOIN page ON 1 = 1 \
         ORDER BY page.value"
    )
}

/// Of this instance and with this value.
pub(crate) fn counts_sql(field: MetadataField) -> String {
    let column = column(field);
    format!(
        "SELECT count(*) FILTER (WHERE j.stage = 2), count(*) FILTER (WHERE j.stage = 3), \
         count(*) FILTER (WHERE j.stage = 4), min(j.queued_at), max(j.completed_at) \
         FROM operations o JOIN jobs j ON j.id = o.job WHERE o.instance = $1 AND {column} = $2 AND {column} <> ''"
    )
}

/// Of this instance and with this value, at most so many.
pub(crate) fn told_sql(field: MetadataField) -> String {
    let column = column(field);
    format!(
        "SELECT DISTINCT o.tool_name, o.tool_version, o.invocation_id, o.correlated_invocations_id, \
         o.action_mnemonic, o.target_id, o.configuration_id FROM operations o \
         WHERE o.instance = $1 AND {column} = $2 AND {column} <> '' ORDER BY 1, 2, 3, 4, 5, 6, 7 LIMIT $3"
    )
}

pub(crate) fn values(rows: Vec<ValueRow>) -> Values {
    let total = rows.first().map_or(0, |(total, _)| number(*total));
    Values { total, values: rows.into_iter().filter_map(|(_, value)| value).collect() }
}

pub(crate) fn summary(counts: CountsRow, rows: Vec<ToldRow>) -> Summary {
    let (queued, executing, completed, first, last) = counts;
    Summary {
        metadata: rows.into_iter().map(told).collect(),
        queued: number(queued),
        executing: number(executing),
        completed: number(completed),
        first_queued: first.map(Timestamp),
        last_completed: last.map(Timestamp),
    }
}

fn told(row: ToldRow) -> RequestMetadata {
    let (tool_name, tool_version, invocation_id, correlated_invocations_id, ..) = row;
    let (.., action_mnemonic, target_id, configuration_id) = row;
    RequestMetadata {
        tool_name,
        tool_version,
        action_id: String::new(),
        invocation_id,
        correlated_invocations_id,
        action_mnemonic,
        target_id,
        configuration_id,
    }
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
