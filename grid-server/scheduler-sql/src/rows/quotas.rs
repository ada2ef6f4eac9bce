//! Rows of quotas.

use grid_scheduler::quota::{Quota, Share};

/// `cohort, instance, least, most`, the leases in use and those taken.
pub(crate) type ShareRow = (String, String, i64, i64, i64, i64);

/// Quotas as [`ShareRow`]s, with what was taken after the parameter: those of some cohorts, or all.
macro_rules! shares_sql {
    ($since:literal $(, $of:literal)?) => {
        concat!(
            "SELECT q.cohort, q.instance, q.least, q.most, (SELECT count(*) FROM jobs j WHERE j.stage = 3 \
             AND j.cohort <> '' AND j.cohort = q.cohort AND j.instance = q.instance), \
             (SELECT count(*) FROM evictions e WHERE e.cohort = q.cohort AND e.instance = q.instance \
             AND e.evicted_at > ",
            $since,
            ") FROM quotas q ",
            $($of,)?
            " ORDER BY q.cohort, q.instance"
        )
    };
}
pub(crate) use shares_sql;

pub(crate) fn share((cohort, instance, least, most, used, evicted): ShareRow) -> Share {
    let count = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
    let quota = Quota { cohort, instance, min: count(least), max: count(most) };
    Share { quota, used: count(used), evicted: count(evicted) }
}

/// Inserts or replaces a quota's `cohort, instance, least, most`.
pub(crate) const SAVE_QUOTA: &str = "INSERT INTO quotas (cohort, instance, least, most) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (cohort, instance) DO UPDATE SET least = excluded.least, most = excluded.most";

/// Removes the quota of a cohort and an instance.
pub(crate) const DELETE_QUOTA: &str = "DELETE FROM quotas WHERE cohort = $1 AND instance = $2";

/// Evictions before the first parameter.
macro_rules! forget_evictions_sql {
    ($before:literal) => {
        concat!("DELETE FROM evictions WHERE evicted_at < ", $before)
    };
}
pub(crate) use forget_evictions_sql;
