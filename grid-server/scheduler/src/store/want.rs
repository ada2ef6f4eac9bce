//! [`Want`]: what a claim looks for in the queue.

use crate::job::Job;
use crate::properties::RequirementId;

/// What a look at the queue is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Jobs with this requirement.
    pub requirement: RequirementId,
    /// At most so many.
    pub most: u32,
    /// Only those of these instances.
    pub only: Option<Vec<String>>,
    /// None of these instances.
    pub except: Vec<String>,
}

impl Want {
    /// The first so many jobs with this requirement.
    #[must_use]
    pub const fn new(requirement: RequirementId, most: u32) -> Self {
        Self { requirement, most, only: None, except: Vec::new() }
    }
}

/// In which order jobs wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Priority, turn, age.
    Turn,
    /// Age, whatever the priority.
    Age,
}

impl Order {
    /// Puts jobs into this order.
    pub fn sort(self, jobs: &mut [Job]) {
        match self {
            Self::Turn => {
                jobs.sort_by_key(|job| (job.state.priority, job.state.turn, job.state.queued_at, job.id));
            }
            Self::Age => jobs.sort_by_key(|job| (job.state.queued_at, job.id)),
        }
    }
}
