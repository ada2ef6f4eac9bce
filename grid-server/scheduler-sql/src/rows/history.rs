//! Rows of what ran of late and of leases that have ended.

use std::time::Duration;

use grid_core::Timestamp;
use grid_scheduler::history::{Ending, Run, Usage};
use grid_scheduler::ids::JobId;
use grid_scheduler::properties::RequirementId;
use grid_scheduler::store::Recent;
use uuid::Uuid;

use super::clean;

/// `requirement, worker_pool, queued_at, started_at, completed_at`.
pub(crate) type RecentRow = (Uuid, String, i64, i64, Option<i64>);

/// Jobs that run, then those that ended after the first parameter, at most the second of each.
macro_rules! recent_sql {
    ($since:literal, $limit:literal) => {
        concat!(
            "SELECT * FROM (SELECT requirement, worker_pool, queued_at, started_at, completed_at FROM jobs \
             WHERE stage = 3 AND started_at IS NOT NULL ORDER BY started_at DESC LIMIT ",
            $limit,
            ") running UNION ALL SELECT * FROM (SELECT requirement, worker_pool, queued_at, started_at, \
             completed_at FROM jobs WHERE stage = 4 AND started_at IS NOT NULL AND completed_at > ",
            $since,
            " ORDER BY completed_at DESC LIMIT ",
            $limit,
            ") ended"
        )
    };
}
pub(crate) use recent_sql;

pub(crate) fn recent((requirement, worker_pool, queued, started, completed): RecentRow) -> Recent {
    Recent {
        requirement: RequirementId(requirement),
        worker_pool,
        queued_at: Timestamp(queued),
        started_at: Timestamp(started),
        completed_at: completed.map(Timestamp),
    }
}

/// `job, attempt, instance, mnemonic, tool, bot, pool`, then `priority, queued_at, started_at, ended_at, ending, cpu,
/// memory`.
pub(crate) type RunRow =
    (Uuid, i64, String, String, String, String, String, i32, i64, i64, i64, i16, i64, i64);

/// Ended leases of the job that the first parameter names, of any where it is null, that ended after the second; at
/// most the third of them.
macro_rules! runs_sql {
    ($job:literal, $since:literal, $limit:literal) => {
        concat!(
            "SELECT job, attempt, instance, mnemonic, tool, bot, pool, priority, queued_at, started_at, ended_at, \
             ending, cpu, memory FROM runs WHERE job = coalesce(",
            $job,
            ", job) AND ended_at > ",
            $since,
            " ORDER BY ended_at DESC, job DESC, attempt DESC LIMIT ",
            $limit
        )
    };
}
pub(crate) use runs_sql;

pub(crate) fn run(row: RunRow) -> Run {
    let (
        job,
        attempt,
        instance,
        mnemonic,
        tool,
        bot,
        pool,
        priority,
        queued,
        started,
        ended,
        ending,
        cpu,
        memory,
    ) = row;
    Run {
        job: JobId(job),
        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        instance,
        mnemonic,
        tool,
        bot,
        pool,
        priority,
        queued_at: Timestamp(queued),
        started_at: Timestamp(started),
        ended_at: Timestamp(ended),
        ending: Ending::of_number(ending),
        usage: Usage {
            cpu: Duration::from_micros(u64::try_from(cpu).unwrap_or(0)),
            memory: u64::try_from(memory).unwrap_or(0),
        },
    }
}

pub(crate) fn run_row(run: &Run) -> RunRow {
    (
        run.job.0,
        i64::from(run.attempt),
        clean(&run.instance),
        clean(&run.mnemonic),
        clean(&run.tool),
        clean(&run.bot),
        clean(&run.pool),
        run.priority,
        run.queued_at.0,
        run.started_at.0,
        run.ended_at.0,
        run.ending.number(),
        i64::try_from(run.usage.cpu.as_micros()).unwrap_or(i64::MAX),
        i64::try_from(run.usage.memory).unwrap_or(i64::MAX),
    )
}
