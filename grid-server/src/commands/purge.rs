//! `purge`: takes back the results that a worker executed, so that their actions run again.

use std::io::Write;
use std::process::ExitCode;

use grid_core::{Clock as _, SystemClock, Timestamp};
use grid_streams::{Executed, ExecutedQuery};

use crate::cli::Purge;
use crate::compose::{self, Executions};
use crate::settings;

/// How many results are taken back at a time.
const BATCH: u32 = 1_000;

/// What became of a worker's results.
#[derive(Debug, Default)]
struct Outcome {
    found: u64,
    failed: u64,
    /// The first failure.
    error: Option<String>,
}

/// Takes back what a worker executed, in every instance of a configuration.
pub(crate) async fn run(arguments: &Purge, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    let executions = compose::executions(&config).await?;
    anyhow::ensure!(
        !executions.is_empty(),
        "the configuration has no `!execution` or `!bots` whose scheduler has an action cache and keeps who executed \
         what (`provenance-retention`)"
    );
    let mut code = ExitCode::SUCCESS;
    for kept in &executions {
        if let Some(problem) = &kept.in_memory {
            writeln!(out, "{}: {problem}", kept.place)?;
            code = ExitCode::FAILURE;
        }
        let outcome = purge(kept, arguments, out).await?;
        let done = if arguments.dry_run { "would be taken back" } else { "taken back" };
        writeln!(
            out,
            "{}: {} results of {} {done}",
            kept.place,
            outcome.found - outcome.failed,
            arguments.worker
        )?;
        if let Some(error) = outcome.error {
            writeln!(out, "{}: {} results could not be taken back: {error}", kept.place, outcome.failed)?;
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn purge(kept: &Executions, arguments: &Purge, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let now = SystemClock.now();
    let mut query = ExecutedQuery {
        worker: arguments.worker.clone(),
        since: arguments.since.seen_from(now),
        until: arguments.until.map_or(Timestamp(i64::MAX), |until| until.seen_from(now)),
        skip: 0,
        limit: BATCH,
    };
    let mut outcome = Outcome::default();
    loop {
        let executed = kept.records.provenance.of_worker(&query).await?;
        if executed.is_empty() {
            return Ok(outcome);
        }
        let gone = if arguments.dry_run {
            executed.iter().try_for_each(|one| describe(one, out))?;
            Vec::new()
        } else {
            take_back(kept, &executed, &mut outcome).await
        };
        outcome.found += executed.len() as u64;
        // Those that stay are passed over.
        query.skip += u32::try_from(executed.len() - gone.len()).unwrap_or(BATCH);
        kept.records.provenance.forget(&gone).await?;
    }
}

/// One line: when, in which instance, which action, and for whom.
fn describe(one: &Executed, out: &mut impl Write) -> std::io::Result<()> {
    let at = jiff::Timestamp::from_microsecond(one.executed_at.0).unwrap_or_default();
    let subject = if one.subject.is_empty() { "nobody that is known" } else { &one.subject };
    writeln!(out, "{at:.0} instance {:?} action {} for {subject}", one.instance, one.action)
}

/// Deletes results; gives those that are gone.
async fn take_back(kept: &Executions, executed: &[Executed], outcome: &mut Outcome) -> Vec<Executed> {
    let mut gone = Vec::with_capacity(executed.len());
    for one in executed {
        // What was executed for an instance that is configured no more has no cache that could give it.
        let deleted = match kept.caches.get(one.instance.as_str()) {
            Some(cache) => cache.delete(&one.action).await,
            None => Ok(()),
        };
        match deleted {
            Ok(()) => gone.push(one.clone()),
            Err(error) => {
                outcome.failed += 1;
                outcome.error.get_or_insert_with(|| error.to_string());
            }
        }
    }
    gone
}
