//! From a lease to a result: fetch, stage, run, upload.
//!
//! [`Executor::execute`] is the whole way on one screen; [`assignment`] reads the lease, `staging` lays
//! out its inputs, [`Residents`] do the work of some, [`workspace`] owns the directory, [`timeline`] the timestamps, [`janitor`] what is left over. Dropping the future at any step
//! ends the action: the runner kills the command, and the directory goes.

pub mod assignment;
pub mod demands;
pub mod janitor;
mod live;
mod logs;
mod persistent;
mod residents;
mod staging;
pub mod timeline;
pub mod workspace;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use grid_core::Digest;
use grid_proto::reapi::{ActionResult, Command};
use grid_proto::rpc::Status as LeaseStatus;
use grid_proto::runner::RunRequest;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Code;

use crate::cache::FileCache;
use crate::cas::Cas;
use crate::error::WorkerError;
use crate::faults::Faults;
use crate::runner_client::{Ran, RunnerClient};
use crate::stage::{SpareTrees, Trees};
use crate::upload::collect::{self, Collected};
use crate::upload::declared::Declared;
use crate::upload::send;
use assignment::Assignment;
use demands::Demands;
use live::LiveLogs;
pub use residents::Residents;
use residents::Work;
use timeline::{Step, Timeline};
use workspace::{Workspace, Workspaces};

/// What becomes of a lease.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// OK where there is a result that stands; else why not.
    pub status: LeaseStatus,
    /// The result; with DEADLINE_EXCEEDED what was produced until then.
    pub result: Option<ActionResult>,
}

impl Outcome {
    /// The outcome of an action that ended without a result.
    #[must_use]
    pub fn failed(error: &WorkerError) -> Self {
        Self { status: error.to_status(), result: None }
    }

    /// The outcome of an action that is given back to the scheduler.
    #[must_use]
    pub fn given_back() -> Self {
        Self::failed(&WorkerError::GivenBack)
    }
}

/// Executes actions; shared by all that run at once.
#[derive(Debug)]
pub struct Executor {
    /// The worker's name, for the result's metadata.
    pub name: String,
    /// Where blobs come from and go to.
    pub cas: Cas,
    /// Known directories.
    pub trees: Trees,
    /// Cached files.
    pub cache: Arc<FileCache>,
    /// Input trees that no action uses.
    pub spares: Arc<SpareTrees>,
    /// Leave to run a command; those that wait for it have their inputs already.
    pub places: Semaphore,
    /// Persistent workers.
    pub residents: Arc<Residents>,
    /// Runs the commands.
    pub runner: RunnerClient,
    /// Where actions get their directories.
    pub workspaces: Workspaces,
    /// Failures of the worker itself.
    pub faults: Faults,
}

impl Executor {
    /// Executes an assignment. Whatever fails becomes a status; `timeline` shows how far it got meanwhile.
    pub async fn execute(&self, assignment: &Assignment, timeline: &Mutex<Timeline>) -> Outcome {
        timeline.lock().mark(Step::WorkerStart);
        let result = self.try_execute(assignment, timeline).await;
        timeline.lock().mark(Step::WorkerCompleted);
        match result {
            Ok((mut result, ran)) => {
                self.faults.clear();
                let mut metadata = timeline.lock().metadata(&self.name);
                metadata.auxiliary_metadata = ran.usage;
                result.execution_metadata = Some(metadata);
                let status = if ran.timed_out { timed_out() } else { LeaseStatus::default() };
                Outcome { status, result: Some(result) }
            }
            Err(error) => {
                tracing::warn!(action = %assignment.action_digest, %error, "an action ended without a result");
                if error.is_own_fault() {
                    self.faults.raise().await;
                }
                Outcome::failed(&error)
            }
        }
    }

    async fn try_execute(
        &self,
        assignment: &Assignment,
        timeline: &Mutex<Timeline>,
    ) -> Result<(ActionResult, Ran), WorkerError> {
        timeline.lock().mark(Step::InputFetchStart);
        let (command, inputs) = tokio::try_join!(
            self.cas.read_message::<Command>("command", &assignment.command_digest),
            self.trees.fetch(assignment.input_root_digest),
        )?;
        let function = assignment.action_digest.function();
        let demands = match &assignment.demands {
            Some(demands) => demands.clone(),
            None => Demands::new(command.platform.as_ref(), function)?,
        };
        let declared = Declared::new(&command)?;
        let environment = environment(&command)?;
        let work = Work {
            assignment,
            command: &command,
            environment: &environment,
            demands: &demands,
            declared: &declared,
            inputs: &inputs,
        };
        if let Some(done) = self.try_resident(work, timeline).await? {
            return Ok(done);
        }
        let staged = self.stage(assignment, inputs, &demands, &declared).await?;
        let workspace = &staged.workspace;
        timeline.lock().mark(Step::InputFetchCompleted);

        let place = self.place().await?;
        timeline.lock().mark(Step::ExecutionStart);
        let request = request(command, environment, workspace, &declared, staged.has_own_tmp);
        let (stdout, stderr) = (assignment.stdout_stream.as_ref(), assignment.stderr_stream.as_ref());
        let live = LiveLogs::start(&self.cas, workspace, stdout, stderr);
        let ran = self.runner.run(request, assignment.timeout, &demands).await?;
        drop(place);
        timeline.lock().mark(Step::ExecutionCompleted);
        live.finish();

        timeline.lock().mark(Step::OutputUploadStart);
        let result = self.upload(assignment, workspace, declared, &ran).await?;
        live.close().await;
        timeline.lock().mark(Step::OutputUploadCompleted);
        // What a runner that ignores the time left running could change what the next action finds.
        if !ran.timed_out {
            self.keep(staged);
        }
        Ok((result, ran))
    }

    /// Waits until the command may run.
    async fn place(&self) -> Result<SemaphorePermit<'_>, WorkerError> {
        self.places.acquire().await.map_err(|error| WorkerError::Internal(error.to_string()))
    }

    async fn upload(
        &self,
        assignment: &Assignment,
        workspace: &Workspace,
        declared: Declared,
        ran: &Ran,
    ) -> Result<ActionResult, WorkerError> {
        let (root, function) = (workspace.root(), assignment.action_digest.function());
        let failed = ran.timed_out || ran.exit_code != 0;
        let Collected { mut result, blobs } =
            blocking(move || collect::collect(&root, &declared, function, failed)).await?;
        result.exit_code = ran.exit_code;
        logs::attach(&self.cas, workspace, function, &mut result).await?;
        send::send(&self.cas, &workspace.root(), blobs).await?;
        Ok(result)
    }
}

fn environment(command: &Command) -> Result<HashMap<String, String>, WorkerError> {
    if command.arguments.is_empty() {
        return Err(WorkerError::Invalid("the command has no arguments".to_owned()));
    }
    let mut environment = HashMap::new();
    for variable in &command.environment_variables {
        let (name, value) = (&variable.name, &variable.value);
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(WorkerError::Invalid(format!("environment variable {name:?} can't be set")));
        }
        environment.insert(name.clone(), value.clone());
    }
    Ok(environment)
}

fn request(
    command: Command,
    environment_variables: HashMap<String, String>,
    workspace: &Workspace,
    declared: &Declared,
    has_own_tmp: bool,
) -> RunRequest {
    // Where the input root becomes `/`, a directory for temporary files would hide what is in its `tmp`.
    let temporary_directory = if has_own_tmp { String::new() } else { workspace.below("tmp") };
    RunRequest {
        arguments: command.arguments,
        environment_variables,
        working_directory: declared.working_directory.display().to_string(),
        stdout_path: workspace.below("logs/stdout"),
        stderr_path: workspace.below("logs/stderr"),
        input_root_directory: workspace.below("root"),
        temporary_directory,
        server_logs_directory: workspace.below("logs"),
    }
}

fn timed_out() -> LeaseStatus {
    LeaseStatus {
        code: Code::DeadlineExceeded.into(),
        message: "the action's timeout passed".to_owned(),
        details: Vec::new(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkerError> + Send + 'static,
) -> Result<T, WorkerError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| WorkerError::Internal(error.to_string()))?
}

/// How long an action may run; `None` where it doesn't say.
pub(crate) fn duration(wire: Option<&prost_types::Duration>) -> Option<Duration> {
    let wire = wire?;
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u32::try_from(wire.nanos).ok()?;
    let duration = Duration::new(seconds, nanos);
    (!duration.is_zero()).then_some(duration)
}

/// The digest as a directory's name: the same for every attempt at an action, so that paths which get into
/// outputs are the same too.
pub(crate) fn directory_name(action: &Digest) -> String {
    action.hash_hex().chars().take(16).collect()
}
