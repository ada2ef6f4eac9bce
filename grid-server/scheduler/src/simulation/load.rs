//! What clients and bots say to a [`Scheduler`](crate::Scheduler), in tests and measurements.

use std::time::Duration;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};

use crate::engine::BotReport;
use crate::history::Usage;
use crate::job::Job;
use crate::operation::{ClientIdentity, RequestMetadata};
use crate::properties::Properties;
use crate::service::{ExecuteRequest, Standing};
use crate::session::{BotStatus, News, ReportedLease, Session};
use crate::{Scheduler, SchedulerError};

/// Who asks for actions, and of which bots.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The instance.
    pub instance: &'a str,
    /// The invocation.
    pub invocation: &'a str,
    /// The priority: smaller is more urgent.
    pub priority: i32,
    /// The operating system that the bots must have.
    pub system: &'a str,
}

impl<'a> Asker<'a> {
    /// An invocation in the unnamed instance, for bots on Linux.
    #[must_use]
    pub const fn new(invocation: &'a str) -> Self {
        Self { instance: "", invocation, priority: 0, system: "linux" }
    }

    /// What it says to ask for an action.
    ///
    /// # Errors
    /// Those of [`Scheduler::requirement`].
    pub async fn request(
        &self,
        scheduler: &Scheduler,
        action: Bytes,
    ) -> Result<ExecuteRequest, SchedulerError> {
        let platform = vec![("OSFamily".to_owned(), self.system.to_owned())];
        Ok(ExecuteRequest {
            instance: self.instance.to_owned(),
            action_digest: Digest::of(DigestFunction::Sha256, &action),
            action,
            command: "cc -c -o file.o file.c".to_owned(),
            requirement: scheduler.requirement(self.instance, &platform).await?,
            platform,
            priority: self.priority,
            cacheable: true,
            timeout: None,
            locality: String::new(),
            client: ClientIdentity::default(),
            metadata: RequestMetadata {
                invocation_id: self.invocation.to_owned(),
                ..RequestMetadata::default()
            },
            cached: None,
        })
    }
}

/// A bot on a system, for every instance.
#[must_use]
pub fn standing(bot_id: &str, system: &str, capacity: u32) -> Standing {
    Standing {
        instance: String::new(),
        bot_id: bot_id.to_owned(),
        properties: Properties::from([("OSFamily".to_owned(), [system.to_owned()].into())]),
        capacity,
        priority: 0,
        status: BotStatus::Ok,
        worker_pool: String::new(),
        node: String::new(),
        version: String::new(),
    }
}

/// What a bot says that holds these leases.
#[must_use]
pub fn report(session: &Session, lifetime: Duration, leases: Vec<ReportedLease>) -> BotReport {
    BotReport {
        session: session.id,
        bot_id: session.bot_id.clone(),
        properties: None,
        capacity: None,
        status: BotStatus::Ok,
        leases,
        lifetime,
    }
}

/// What it says of one of them.
#[must_use]
pub fn lease(job: &Job, news: News, usage: Usage) -> ReportedLease {
    ReportedLease { job: job.id, attempt: job.state.attempts, news, usage }
}
