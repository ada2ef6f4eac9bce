//! What clients ask of a [`Scheduler`]: execute, watch, cancel, look up, list.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{Digest, Timestamp};

use super::patience::patiently;
use super::{Scheduler, Watch};
use crate::SchedulerError;
use crate::engine::{self, Submission};
use crate::filter::ListQuery;
use crate::history::Usage;
use crate::ids::{JobId, OperationId};
use crate::job::{Job, JobSpec, JobState};
use crate::metadata::{Summary, SummaryQuery, Values, ValuesQuery};
use crate::operation::{ClientIdentity, Operation, RequestMetadata};
use crate::properties::Requirement;
use crate::transition;

/// An action to be executed.
#[derive(Clone, Debug)]
pub struct ExecuteRequest {
    /// The instance it is asked of.
    pub instance: String,
    /// The action's digest.
    pub action_digest: Digest,
    /// The encoded action.
    pub action: Bytes,
    /// Its command line, for people.
    pub command: String,
    /// The platform's properties, as given.
    pub platform: Vec<(String, String)>,
    /// What the platform asks of a bot, from [`Scheduler::requirement`].
    pub requirement: Requirement,
    /// Smaller is sooner.
    pub priority: i32,
    /// Whether the result may be kept and shared with others who ask for the same.
    pub cacheable: bool,
    /// The action's own limit on its run time.
    pub timeout: Option<Duration>,
    /// Bots that ran jobs with the same hint are preferred.
    pub locality: String,
    /// Who asks.
    pub client: ClientIdentity,
    /// With which tool.
    pub metadata: RequestMetadata,
    /// The encoded `ExecuteResponse`, where the action cache had it.
    pub cached: Option<Bytes>,
}

impl Scheduler {
    /// Accepts an action: once this returns, it survives any crash.
    ///
    /// # Errors
    /// [`SchedulerError::QueueFull`] where as many jobs of its label wait as may; the store's.
    pub async fn execute(&self, request: ExecuteRequest) -> Result<Watch, SchedulerError> {
        let deadline = self.deadline();
        let limit = self.core.options.queue_limit(&request.instance).filter(|_| request.cached.is_none());
        if let Some(limit) = limit {
            let label = &request.requirement.label;
            // Calls that come at once may all find the last place free: the limit guards memory and time, not a sum.
            if patiently(deadline, || self.core.store.labelled(label, limit)).await? >= limit {
                return Err(SchedulerError::QueueFull { label: label.clone(), limit });
            }
        }
        let (_, watch) = self.submissions.call_by(self.submission(request), deadline).await?;
        Ok(watch)
    }

    fn submission(&self, request: ExecuteRequest) -> Submission {
        let requirement_id = request.requirement.id();
        let job = self.job(&request, Timestamp::default());
        let operation = Operation {
            id: OperationId(self.ids.next()),
            job: job.id,
            instance: request.instance,
            cancelled: false,
            created_at: Timestamp::default(),
            client: request.client,
            metadata: request.metadata,
        };
        let unknown = !self.core.dispatcher.knows(requirement_id);
        let requirement = unknown.then_some(request.requirement);
        Submission { job, operation, requirement, watch_grace: self.core.options.watch_grace }
    }

    fn job(&self, request: &ExecuteRequest, now: Timestamp) -> Job {
        let flows = [&request.metadata.invocation_id, &request.client.subject, &request.client.actor];
        let flow = flows.into_iter().find(|flow| !flow.is_empty()).cloned().unwrap_or_default();
        let spec = JobSpec {
            instance: request.instance.clone(),
            pool: self.pool(&request.instance).to_owned(),
            action_digest: request.action_digest,
            cacheable: request.cacheable,
            requirement: request.requirement.id(),
            label: request.requirement.label.clone(),
            flow,
            timeout_micros: request.timeout.map(|t| i64::try_from(t.as_micros()).unwrap_or(i64::MAX)),
            command: request.command.clone(),
            platform: request.platform.clone(),
            mnemonic: request.metadata.action_mnemonic.clone(),
            tool: request.metadata.tool_name.clone(),
            subject: request.client.subject.clone(),
            locality: request.locality.clone(),
        };
        let state = JobState::queued(now, request.priority, now);
        let mut job = Job {
            id: JobId(self.ids.next()),
            spec,
            action: request.action.clone(),
            state,
            ended: Vec::new(),
            closed: Vec::new(),
        };
        if let Some(response) = &request.cached {
            transition::finish(&mut job, response.clone(), Usage::default(), now);
        }
        job
    }

    /// Watches an operation that was asked for before, here or on another replica.
    ///
    /// # Errors
    /// [`SchedulerError::OperationNotFound`]; the store's.
    pub async fn watch(&self, id: OperationId) -> Result<Watch, SchedulerError> {
        let deadline = self.deadline();
        let found = self.operations.call_by(id, deadline).await?;
        let (operation, job) = found.ok_or(SchedulerError::OperationNotFound(id))?;
        let job_id = job.id;
        let watch = self.core.hub.watch(operation, job, true);
        // What happened between the look and the watch is seen by a second look.
        if let Some(job) = self.jobs.call_by(job_id, deadline).await? {
            self.core.hub.publish(&job);
        }
        Ok(watch)
    }

    /// An operation and its job.
    ///
    /// # Errors
    /// [`SchedulerError::OperationNotFound`]; the store's.
    pub async fn operation(&self, id: OperationId) -> Result<(Operation, Arc<Job>), SchedulerError> {
        self.operations.call(id).await?.ok_or(SchedulerError::OperationNotFound(id))
    }

    /// A page of operations with their jobs, without responses.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, query: &ListQuery) -> Result<Vec<(Operation, Job)>, SchedulerError> {
        patiently(self.deadline(), || self.core.store.list(query)).await
    }

    /// A page of the values that operations have in a field of what was told of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn metadata_values(&self, query: &ValuesQuery) -> Result<Values, SchedulerError> {
        patiently(self.deadline(), || self.core.store.metadata_values(query)).await
    }

    /// What became of the operations that have a value in a field of what was told of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn metadata_summary(&self, query: &SummaryQuery) -> Result<Summary, SchedulerError> {
        patiently(self.deadline(), || self.core.store.metadata_summary(query)).await
    }

    /// Cancels an operation; its job ends when nobody else waits for it.
    ///
    /// # Errors
    /// [`SchedulerError::OperationNotFound`]; the store's.
    pub async fn cancel(&self, id: OperationId) -> Result<(), SchedulerError> {
        self.cancellations.call(id).await?
    }

    /// Forgets an operation. Its job goes on, and who watches it sees it end.
    ///
    /// # Errors
    /// [`SchedulerError::OperationNotFound`]; the store's.
    pub async fn delete(&self, id: OperationId) -> Result<(), SchedulerError> {
        let answers = engine::delete(self.core.store.as_ref(), &[id]).await?;
        answers.into_iter().next().unwrap_or(Err(SchedulerError::OperationNotFound(id)))
    }
}
