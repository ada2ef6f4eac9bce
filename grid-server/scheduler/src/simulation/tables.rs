//! The rows of a simulated database.

use std::collections::BTreeMap;

use crate::ids::{JobId, OperationId, SessionId};
use crate::job::{Job, Stage};
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::session::Session;
use crate::store::{Depth, FlowKey};

/// Every row, by key.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Jobs.
    pub jobs: BTreeMap<JobId, Job>,
    /// Operations.
    pub operations: BTreeMap<OperationId, Operation>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Requirements.
    pub requirements: BTreeMap<RequirementId, Requirement>,
    /// Turns.
    pub turns: BTreeMap<FlowKey, i64>,
}

impl Tables {
    /// How many jobs wait and run, by requirement.
    #[must_use]
    pub fn depths(&self) -> Vec<Depth> {
        let mut depths: BTreeMap<RequirementId, Depth> = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.state.stage != Stage::Completed) {
            let requirement = job.spec.requirement;
            let empty = Depth { requirement, queued: 0, executing: 0, oldest: None };
            let depth = depths.entry(requirement).or_insert(empty);
            if job.state.stage == Stage::Queued {
                depth.queued += 1;
                let at = job.state.queued_at;
                depth.oldest = Some(depth.oldest.map_or(at, |oldest| oldest.min(at)));
            } else {
                depth.executing += 1;
            }
        }
        depths.into_values().collect()
    }
}
