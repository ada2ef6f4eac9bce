//! Rows of why jobs waited.

use grid_core::Timestamp;
use grid_scheduler::fleet::{Wait, WaitReason};
use grid_scheduler::properties::RequirementId;
use uuid::Uuid;

use super::clean;

/// `requirement, since, until, reason, text`.
pub(crate) type WaitRow = (Uuid, i64, i64, i16, String);

/// Spans of either of two requirements that ended at the third parameter or later and began at the fourth or before; at
/// most the fifth of them.
macro_rules! waits_sql {
    ($own:literal, $every:literal, $since:literal, $until:literal, $limit:literal) => {
        concat!(
            "SELECT requirement, since, until, reason, text FROM waits WHERE requirement IN (",
            $own,
            ", ",
            $every,
            ") AND until >= ",
            $since,
            " AND since <= ",
            $until,
            " ORDER BY since DESC, until DESC LIMIT ",
            $limit
        )
    };
}
pub(crate) use waits_sql;

/// The spans of these rows; reasons of newer versions are left out.
pub(crate) fn waits(rows: Vec<WaitRow>) -> Vec<Wait> {
    let wait = |(requirement, since, until, reason, text): WaitRow| {
        let reason = WaitReason::of_number(reason)?;
        let (since, until) = (Timestamp(since), Timestamp(until));
        Some(Wait { requirement: RequirementId(requirement), since, until, reason, text })
    };
    rows.into_iter().filter_map(wait).collect()
}

pub(crate) fn wait_row(wait: &Wait) -> WaitRow {
    (wait.requirement.0, wait.since.0, wait.until.0, wait.reason.number(), clean(&wait.text))
}
