//! What is over, as messages: a job's attempts and waits, and what actions of a kind took.

use std::time::Duration;

use grid_proto::fleet as proto;
use grid_scheduler::fleet::{Quantiles, Wait};
use grid_scheduler::history::{Run, SizeClass};

use super::wire::{quantiles, reason};
use crate::execution::render::timestamp;

/// What size classes are made of where nothing is said.
pub(super) const WITHIN: Duration = Duration::from_hours(24);

/// What actions of one kind took.
pub(super) fn size_class(class: &SizeClass) -> proto::SizeClass {
    proto::SizeClass {
        action_mnemonic: class.mnemonic.clone(),
        tool_name: class.tool.clone(),
        finished: class.finished,
        workers_lost: class.workers_lost,
        run_time: class.run_time.map(quantiles),
        cpu_time: class.cpu.map(quantiles),
        memory: class.memory.map(amounts),
    }
}

/// One ended lease of a job.
pub(super) fn attempt(run: &Run) -> proto::Attempt {
    proto::Attempt {
        number: run.attempt,
        bot: run.bot.clone(),
        assigned_at: Some(timestamp(run.started_at)),
        ended_at: Some(timestamp(run.ended_at)),
        ending: run.ending.name().to_owned(),
    }
}

/// Why a job waited for some time.
pub(super) fn wait(wait: &Wait) -> proto::PastWait {
    proto::PastWait {
        reason: reason(wait.reason).into(),
        text: wait.text.clone(),
        since: Some(timestamp(wait.since)),
        until: Some(timestamp(wait.until)),
    }
}

const fn amounts(of: Quantiles<u64>) -> proto::AmountQuantiles {
    proto::AmountQuantiles { p50: of.p50, p90: of.p90, p99: of.p99, max: of.max }
}
