//! What a grid's servers lack, for its conditions. Neighbour: `status` says it.

use grid_operator_api::BuildGrid;
use grid_operator_apply::Observed;

use super::roles::Role;
use crate::names::Names;
use crate::workload::Progress;

/// The servers of a grid, by what they lack.
#[derive(Default)]
pub(super) struct Servers {
    /// Without any pod that is available.
    pub(super) missing: Vec<String>,
    /// With fewer pods than wanted, and no rollout going on.
    pub(super) short: Vec<String>,
    /// In the middle of a rollout.
    pub(super) unsettled: Vec<String>,
    /// Why pods can't be made.
    pub(super) refused: Vec<String>,
}

impl Servers {
    pub(super) fn of(grid: &BuildGrid, observed: &Observed) -> Self {
        let name = grid.metadata.name.as_deref().unwrap_or_default();
        let mut servers = Self::default();
        for role in Role::of(grid.spec.topology) {
            let workload = Names(name).component(role.component());
            let progress = Progress::of(observed, &workload);
            servers.refused.extend(progress.failure.clone());
            if progress.available == 0 {
                servers.missing.push(workload.clone());
            }
            if !progress.settled {
                servers.unsettled.push(workload.clone());
            }
            if progress.available > 0 && progress.short {
                servers.short.push(workload);
            }
        }
        servers
    }

    pub(super) fn all_available(&self) -> bool {
        self.missing.is_empty()
    }
}
