//! `mutations`: shows that the simulation would notice. Each mutation breaks one rule of the scheduler in a copy of the
//! sources, and the tests have to fail on it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{shell, workspace};

/// A rule, and how it is broken.
struct Mutation {
    /// The rule.
    breaks: &'static str,
    /// The file in the scheduler's sources.
    file: &'static str,
    /// What stands there, once.
    from: &'static str,
    /// What is put in its place.
    to: &'static str,
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        breaks: "no accepted job is lost: its operation is kept",
        file: "engine/submit.rs",
        from: "tx.insert_operations(&operations).await?;",
        to: "",
    },
    Mutation {
        breaks: "no accepted job is lost: a lost lease is given again",
        file: "transition.rs",
        from: "job.state.stage = Stage::Queued;",
        to: "",
    },
    Mutation {
        breaks: "no two live leases for one job: each lease has a number of its own",
        file: "transition.rs",
        from: "job.state.attempts.saturating_add(1)",
        to: "job.state.attempts.max(1)",
    },
    Mutation {
        breaks: "a lease that was taken over is refused when it comes back late",
        file: "session.rs",
        from: "r.job == job.id && r.attempt == attempt",
        to: "r.job == job.id",
    },
    Mutation {
        breaks: "retries are bounded: a job that kills its workers is stopped",
        file: "transition.rs",
        from: "failures.worker_lost >= policy.max_workers_lost",
        to: "failures.worker_lost >= 100",
    },
    Mutation {
        breaks: "retries are bounded: a job that always fails is stopped",
        file: "transition.rs",
        from: "failed >= policy.max_attempts",
        to: "failed >= 100",
    },
    Mutation {
        breaks: "a bot that drains gets no work",
        file: "session.rs",
        from: "self.status == BotStatus::Ok && self.drain_until.is_none()",
        to: "self.status == BotStatus::Ok",
    },
    Mutation {
        breaks: "a drain ends: past its deadline what still runs is given back",
        file: "engine/drain.rs",
        from: "session.drain_until.is_some_and(|until| until <= now)",
        to: "session.drain_until.is_some_and(|until| until.after(Duration::from_hours(9)) <= now)",
    },
    Mutation {
        breaks: "each watcher gets its answer: what is completed is told",
        file: "service/hub.rs",
        from: "view.job = Arc::clone(job);",
        to: "if job.state.stage != Stage::Completed { view.job = Arc::clone(job); }",
    },
    Mutation {
        breaks: "what waits is found where no news came",
        file: "service/loops.rs",
        from: "Ok(queued) => core.dispatcher.queued(queued.iter().copied()),",
        to: "Ok(_) => {}",
    },
    Mutation {
        breaks: "who waits is looked at when work comes",
        file: "service/dispatcher.rs",
        from: "state.fresh_hints.extend(ids.into_iter().filter(|id| state.queued.insert(*id)));",
        to: "state.queued.extend(ids);",
    },
    Mutation {
        breaks: "work that waits is looked at when a bot comes",
        file: "service/dispatcher/place.rs",
        from: "state.fresh_places.insert(self.place);",
        to: "",
    },
    Mutation {
        breaks: "a call is answered within its patience",
        file: "service/batcher.rs",
        from: "timeout_at(deadline, held).await.unwrap_or_else(|_| Err(tired()))",
        to: "timeout_at(deadline + std::time::Duration::from_hours(1), held).await.unwrap_or_else(|_| Err(tired()))",
    },
    Mutation {
        breaks: "the fairness bound: invocations take turns of their own",
        file: "engine/submit.rs",
        from: "let flow = format!(\"={}\", job.spec.flow);",
        to: "let flow = \"=\".to_owned();",
    },
    Mutation {
        breaks: "without turns the order is priority, then age",
        file: "simulation/tx.rs",
        from: "jobs.truncate(usize::try_from(want.most).unwrap_or(usize::MAX));",
        to: "jobs.reverse(); jobs.truncate(usize::try_from(want.most).unwrap_or(usize::MAX));",
    },
    Mutation {
        breaks: "a share of the leases goes to the oldest jobs",
        file: "service/dispatcher.rs",
        from: "Some(Errand { slots, wants, aged, requirements })",
        to: "let _: Vec<(RequirementId, u32)> = aged; Some(Errand { slots, wants, aged: Vec::new(), requirements })",
    },
    Mutation {
        breaks: "no instance holds more leases than its quota",
        file: "quota.rs",
        from: "self.quota.max.saturating_sub(self.evicted).max(self.quota.min)",
        to: "u32::MAX",
    },
    Mutation {
        breaks: "who has less than it is due comes first",
        file: "assign.rs",
        from: "Rule::Due => ledger.owes(cohort, instance),",
        to: "Rule::Due => false,",
    },
    Mutation {
        breaks: "a lease is taken only for who waits too long",
        file: "engine/preempt.rs",
        from: "job.state.queued_at <= late && ",
        to: "job.state.queued_at > late && ",
    },
];

/// How many schedules a mutation has to outlive to count as unnoticed.
const SEEDS: &str = "400";

/// Tries every mutation, or those of rules that contain a text.
///
/// # Errors
/// Where one is not noticed, or no longer fits the sources.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let copy = workspace::target()?.join("mutations");
    if copy.exists() {
        fs::remove_dir_all(&copy).context("the copy of an earlier run can't be removed")?;
    }
    let prefix = format!("--prefix={}/", copy.display());
    shell::run(&mut shell::command("git", ["checkout-index", "--all", prefix.as_str()])?)?;
    shell::step("the tests pass on the copy as it is", || {
        ensure!(passes(&copy)?, "they don't: a mutation would prove nothing");
        Ok(())
    })?;
    let mut unnoticed = Vec::new();
    let wanted = |mutation: &&Mutation| filter.is_none_or(|text| mutation.breaks.contains(text));
    for mutation in MUTATIONS.iter().filter(wanted) {
        let path = copy.join("grid-server/scheduler/src").join(mutation.file);
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let places = source.matches(mutation.from).count();
        ensure!(places == 1, "{}: {:?} is there {places} times", mutation.file, mutation.from);
        fs::write(&path, source.replace(mutation.from, mutation.to))?;
        build(&copy).with_context(|| format!("the mutation of {} does not compile", mutation.file))?;
        let noticed = !passes(&copy)?;
        println!("{} {}", if noticed { "noticed  " } else { "UNNOTICED" }, mutation.breaks);
        if !noticed {
            unnoticed.push(mutation.breaks);
        }
        fs::write(&path, source)?;
    }
    fs::remove_dir_all(&copy)?;
    if unnoticed.is_empty() { Ok(()) } else { bail!("unnoticed: {}", unnoticed.join("; ")) }
}

const TESTS: [&str; 7] = ["-p", "grid-scheduler", "--locked", "--test", "simulation", "--test", "fairness"];

fn build(copy: &Path) -> Result<()> {
    let arguments = ["test", "--quiet", "--no-run"].into_iter().chain(TESTS);
    shell::run(shell::command("cargo", arguments)?.current_dir(copy))
}

fn passes(copy: &Path) -> Result<bool> {
    let arguments = ["test", "--quiet"].into_iter().chain(TESTS);
    let mut command = shell::command("cargo", arguments)?;
    command.current_dir(copy).env("GRID_SIM_SEEDS", SEEDS);
    Ok(command.output().context("cargo can't be started")?.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_fits_the_sources() {
        for mutation in MUTATIONS {
            let path = workspace::root().join("grid-server/scheduler/src").join(mutation.file);
            let places = fs::read_to_string(path).unwrap().matches(mutation.from).count();
            assert_eq!(places, 1, "{}: {:?}", mutation.file, mutation.from);
        }
    }
}
