//! [`Run`]: a lease that has ended, as the history keeps it; [`size_classes`]: what actions of one kind took.
//!
//! [`crate::transition`] makes runs, stores keep them for a while after their jobs have gone, and nothing decides by
//! them: they are for people and for whoever sizes pools.

use std::collections::BTreeMap;
use std::time::Duration;

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::Quantiles;
use crate::ids::JobId;

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ending {
    /// The bot ran the action to its end, whatever its exit code.
    Finished,
    /// The scheduler ended the job: cancelled, timed out, unwatched, or given up after too many leases.
    Stopped,
    /// The worker vanished, or no longer knew the lease.
    WorkerLost,
    /// The worker met a defect of its own.
    Internal,
    /// Something the worker needs was away.
    Unavailable,
    /// The worker gave it back in good order.
    GivenBack,
    /// It was taken for an instance that had fewer leases than its quota.
    Preempted,
}

impl Ending {
    /// All of them; the place of each is the number that stores keep, so new ones come last.
    pub const ALL: [Self; 7] = [
        Self::Finished,
        Self::Stopped,
        Self::WorkerLost,
        Self::Internal,
        Self::Unavailable,
        Self::GivenBack,
        Self::Preempted,
    ];

    /// The number that stores keep.
    #[must_use]
    pub fn number(self) -> i16 {
        let place = Self::ALL.iter().position(|ending| *ending == self);
        place.and_then(|place| i16::try_from(place).ok()).unwrap_or_default()
    }

    /// The ending of a number; one of a newer version counts as [`Ending::Stopped`].
    #[must_use]
    pub fn of_number(number: i16) -> Self {
        let place = usize::try_from(number).ok();
        place.and_then(|place| Self::ALL.get(place)).copied().unwrap_or(Self::Stopped)
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::WorkerLost => "worker_lost",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::GivenBack => "given_back",
            Self::Preempted => "preempted",
        }
    }
}

/// What an action used, as its worker measured it; zero where it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// The largest resident set, in bytes.
    pub memory: u64,
}

/// A lease that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The job.
    pub job: JobId,
    /// Which of its leases.
    pub attempt: u32,
    /// The instance of the job's first operation.
    pub instance: String,
    /// The action's mnemonic; empty where its client named none.
    pub mnemonic: String,
    /// The tool that asked for it; empty where its client named none.
    pub tool: String,
    /// The bot.
    pub bot: String,
    /// The bot's declared pool; empty for none.
    pub pool: String,
    /// The job's priority.
    pub priority: i32,
    /// When the job was accepted.
    pub queued_at: Timestamp,
    /// When the lease was given.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How.
    pub ending: Ending,
    /// What it used.
    pub usage: Usage,
}

impl Run {
    /// How long it ran.
    #[must_use]
    pub fn run_time(&self) -> Duration {
        self.ended_at.since(self.started_at)
    }
}

/// What actions of one kind took.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeClass {
    /// Their mnemonic.
    pub mnemonic: String,
    /// The tool that asked for them.
    pub tool: String,
    /// How many finished.
    pub finished: u64,
    /// How many leases were lost with their workers: a kind that is too large for its workers shows here.
    pub workers_lost: u64,
    /// How long they ran.
    pub run_time: Option<Quantiles<Duration>>,
    /// Processor time, of those whose workers measured it.
    pub cpu: Option<Quantiles<Duration>>,
    /// The largest resident set in bytes, of those whose workers measured it.
    pub memory: Option<Quantiles<u64>>,
}

/// The kinds of actions among runs, those that took most time in all first.
#[must_use]
pub fn size_classes(runs: &[Run]) -> Vec<SizeClass> {
    let mut kinds: BTreeMap<(&str, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        kinds.entry((&run.mnemonic, &run.tool)).or_default().push(run);
    }
    let mut classes: Vec<(Duration, SizeClass)> = kinds
        .into_iter()
        .map(|((mnemonic, tool), runs)| {
            let finished: Vec<&Run> = runs.iter().copied().filter(|r| r.ending == Ending::Finished).collect();
            let lost = runs.iter().filter(|run| run.ending == Ending::WorkerLost).count();
            let times: Vec<Duration> = finished.iter().map(|run| run.run_time()).collect();
            let cpu = finished.iter().map(|run| run.usage.cpu).filter(|cpu| !cpu.is_zero());
            let memory = finished.iter().map(|run| run.usage.memory).filter(|memory| *memory > 0);
            let class = SizeClass {
                mnemonic: mnemonic.to_owned(),
                tool: tool.to_owned(),
                finished: finished.len() as u64,
                workers_lost: lost as u64,
                cpu: Quantiles::of(cpu.collect()),
                memory: Quantiles::of(memory.collect()),
                run_time: Quantiles::of(times.clone()),
            };
            (times.iter().sum(), class)
        })
        .collect();
    classes.sort_by(|(a, _), (b, _)| b.cmp(a));
    classes.into_iter().map(|(_, class)| class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mnemonic: &str, seconds: u64, ending: Ending, memory: u64) -> Run {
        Run {
            job: JobId(uuid::Uuid::nil()),
            attempt: 1,
            instance: String::new(),
            mnemonic: mnemonic.to_owned(),
            tool: "bazel".to_owned(),
            bot: String::new(),
            pool: String::new(),
            priority: 0,
            queued_at: Timestamp(0),
            started_at: Timestamp(5_000_000),
            ended_at: Timestamp(5_000_000).after(Duration::from_secs(seconds)),
            ending,
            usage: Usage { cpu: Duration::ZERO, memory },
        }
    }

    #[test]
    fn kinds_are_told_apart_and_only_finished_runs_are_measured() {
        let runs = [
            run("Link", 40, Ending::Finished, 900),
            run("Link", 1_000, Ending::WorkerLost, 0),
            run("Compile", 2, Ending::Finished, 0),
            run("Compile", 4, Ending::Finished, 100),
        ];
        let classes = size_classes(&runs);
        let names: Vec<&str> = classes.iter().map(|class| class.mnemonic.as_str()).collect();
        assert_eq!(names, ["Link", "Compile"], "the one that takes most time comes first");
        assert_eq!((classes[0].finished, classes[0].workers_lost), (1, 1));
        assert_eq!(classes[0].run_time.unwrap().max, Duration::from_secs(40));
        assert_eq!(classes[1].run_time.unwrap().max, Duration::from_secs(4));
        assert_eq!(classes[1].memory.unwrap().p50, 100, "an unmeasured run says nothing of memory");
        assert_eq!(classes[1].cpu, None);
    }

    #[test]
    fn endings_keep_their_numbers() {
        let numbers: Vec<i16> = Ending::ALL.iter().map(|ending| ending.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
        assert!(Ending::ALL.iter().all(|ending| Ending::of_number(ending.number()) == *ending));
        assert_eq!(Ending::of_number(99), Ending::Stopped);
    }
}
