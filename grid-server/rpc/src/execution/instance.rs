//! [`ExecutionInstance`]: what Execution, Operations and Bots need of an instance.

use std::sync::Arc;
use std::time::Duration;

use grid_cache::SharedCache;
use grid_cas::SharedStore;
use grid_core::Clock;
use grid_scheduler::Scheduler;
use grid_streams::Provenance;

use super::metering::Metered;
use crate::bots::RemoteLogs;
use crate::digests::{self, Functions};

/// What Execution, Operations and Bots need of an instance.
#[derive(Clone, Debug)]
pub struct ExecutionInstance {
    /// The scheduler; instances may share one.
    pub scheduler: Arc<Scheduler>,
    /// Where actions, commands and inputs are.
    pub storage: SharedStore,
    /// Where results are looked up and, by the scheduler alone, written.
    pub action_cache: Option<SharedCache>,
    /// The digest functions that the instance takes.
    pub functions: Functions,
    /// Programs (`argv[0]`) that may be run; empty for all (`command-allowlist`).
    pub command_allowlist: Vec<String>,
    /// How often an `Execute` stream repeats itself when there is no news (`operation-stream-keepalive-timeout`,
    /// 600 s).
    pub operation_stream_keepalive: Duration,
    /// Operations a page, at most (`max-list-operations-page-size`, 1,000).
    pub max_list_page_size: u32,
    /// The prefix of the links that answers carry (`action-browser-url`).
    pub action_browser_url: Option<String>,
    /// Whether a bot with leases is held for news (`bots-long-poll-during-execution`, on).
    pub long_poll_during_execution: bool,
    /// Where it is kept who executed which result, where that is kept.
    pub records: Option<Records>,
    /// Where it is counted who uses how much, where that is counted.
    pub metering: Option<Metered>,
    /// The other server that the log streams of leases are made at (`logstream`); its scheduler's instances share one.
    pub logs_elsewhere: Option<Arc<RemoteLogs>>,
}

/// Where it is kept who executed which result.
#[derive(Clone, Debug)]
pub struct Records {
    /// The records.
    pub provenance: Arc<dyn Provenance>,
    /// What tells when a result came.
    pub clock: Arc<dyn Clock>,
}

impl ExecutionInstance {
    /// An instance with BuildGrid's defaults.
    #[must_use]
    pub fn new(scheduler: Arc<Scheduler>, storage: SharedStore, action_cache: Option<SharedCache>) -> Self {
        Self {
            scheduler,
            storage,
            action_cache,
            functions: digests::all_functions(),
            command_allowlist: Vec::new(),
            operation_stream_keepalive: Duration::from_mins(10),
            max_list_page_size: 1_000,
            action_browser_url: None,
            long_poll_during_execution: true,
            records: None,
            metering: None,
            logs_elsewhere: None,
        }
    }
}
