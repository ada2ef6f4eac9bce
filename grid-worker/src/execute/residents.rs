//! [`Residents`]: persistent workers, each with a directory that is laid out anew for each action.
//!
//! A process keeps its working directory, so its directory stays where it is and becomes the next action's, as a spare
//! tree does: what the action before left there goes. A process is taken by one action at a time; whatever trouble there
//! is with it, it is ended with its directory, and the action is run as any other. Neighbours: `persistent` says who may
//! have which, `runner::residents` is the other side.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_core::Digest;
use grid_proto::reapi::{ActionResult, Command};
use grid_proto::runner::RunRequest;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, OFlags, unlinkat};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::assignment::Assignment;
use super::demands::Demands;
use super::live::LiveLogs;
use super::persistent::Plan;
use super::timeline::{Step, Timeline};
use super::workspace::{Workspace, make_parents};
use super::{Executor, blocking};
use crate::error::WorkerError;
use crate::runner::isolation::POINTS;
use crate::runner_client::{Ran, RunnerClient};
use crate::stage::spare::TreePins;
use crate::stage::{InputTree, Layout, lay_out};
use crate::upload::collect::open_beneath;
use crate::upload::declared::Declared;

/// The file with a piece of work, in the action's directory.
const WORK: &str = "work";
/// The most bytes of a flag file.
const LARGEST_FLAGS: u64 = 16 << 20;

/// A process that stays, and its directory.
#[derive(Debug)]
struct Resident {
    key: Digest,
    name: String,
    workspace: Workspace,
    layout: Option<Layout>,
    pins: TreePins,
    /// The call that keeps it.
    held: Option<Held>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// A call that ends when this is dropped.
#[derive(Debug)]
struct Held(AbortHandle);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The processes that no action uses, and how many there may be.
#[derive(Debug)]
pub struct Residents {
    permits: Arc<Semaphore>,
    most: usize,
    patience: Duration,
    /// From the least to the most recently used.
    idle: Mutex<Vec<Resident>>,
}

impl Residents {
    /// At most `most` at once; each is ended when it had nothing to do for `patience`.
    #[must_use]
    pub fn new(most: usize, patience: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(most)), most, patience, idle: Mutex::default() }
    }

    /// Ends the process that had nothing to do for the longest time; whether there was one.
    pub fn give_up_one(&self) -> bool {
        let mut idle = self.idle.lock();
        let gone = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        gone.is_some()
    }

    /// Ends all processes that have nothing to do.
    pub fn give_up(&self) {
        while self.give_up_one() {}
    }

    /// A process with this key that is alive.
    fn take(&self, key: &Digest) -> Option<Resident> {
        let mut idle = self.idle.lock();
        let (dead, alive): (Vec<_>, Vec<_>) = std::mem::take(&mut *idle)
            .into_iter()
            .partition(|resident| resident.held.as_ref().is_none_or(|held| held.0.is_finished()));
        *idle = alive;
        let at = idle.iter().rposition(|resident| resident.key == *key);
        let taken = at.map(|at| idle.remove(at));
        drop(idle);
        drop(dead);
        taken
    }

    /// Leave for another process; one that has nothing to do goes for it.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if self.most == 0 {
            return None;
        }
        loop {
            if let Ok(permit) = self.permits.clone().try_acquire_owned() {
                return Some(permit);
            }
            if !self.give_up_one() {
                return None;
            }
        }
    }

    fn put(self: &Arc<Self>, mut resident: Resident) {
        resident.since = Instant::now();
        self.idle.lock().push(resident);
        let residents = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(residents.patience).await;
            let idle = |resident: &Resident| resident.since.elapsed() < residents.patience;
            let mut all = residents.idle.lock();
            let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut *all).into_iter().partition(idle);
            *all = kept;
            drop(all);
            drop(gone);
        });
    }
}

/// An action whose work a persistent worker may do.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) assignment: &'a Assignment,
    pub(super) command: &'a Command,
    pub(super) environment: &'a HashMap<String, String>,
    pub(super) demands: &'a Demands,
    pub(super) declared: &'a Declared,
    pub(super) inputs: &'a InputTree,
}

impl Executor {
    /// Has a persistent worker do the work; `None` where none can, or where it failed at it.
    pub(super) async fn try_resident(
        &self,
        work: Work<'_>,
        timeline: &Mutex<Timeline>,
    ) -> Result<Option<(ActionResult, Ran)>, WorkerError> {
        if self.residents.most == 0 || !self.cache.links() {
            return Ok(None);
        }
        let plan = Plan::new(work.command, work.environment, work.demands, work.inputs);
        let Some(plan) = plan else { return Ok(None) };
        let Some(mut resident) = self.resident(&plan.key)? else { return Ok(None) };
        self.settle_in(&mut resident, &work).await?;
        let (form, startup) = (plan.form, plan.startup.clone());
        if !resident.prepare(plan).await? {
            return Ok(None);
        }
        timeline.lock().mark(Step::InputFetchCompleted);
        let place = self.place().await?;
        timeline.lock().mark(Step::ExecutionStart);
        if resident.held.is_none() {
            let request = resident.startup(startup, work.environment.clone());
            resident.held = Some(hold(&self.runner, request, work.demands, &resident.name, form.name()));
        }
        let (stdout, stderr) =
            (work.assignment.stdout_stream.as_ref(), work.assignment.stderr_stream.as_ref());
        let live = LiveLogs::start(&self.cas, &resident.workspace, stdout, stderr);
        let file = resident.workspace.below(WORK);
        let call = self.runner.work(resident.request(), work.assignment.timeout, &resident.name, &file);
        let ran = match call.await {
            Ok(ran) => ran,
            Err(None) => return Ok(None),
            Err(Some(error)) => return Err(error),
        };
        drop(place);
        timeline.lock().mark(Step::ExecutionCompleted);
        live.finish();
        timeline.lock().mark(Step::OutputUploadStart);
        let result = self.upload(work.assignment, &resident.workspace, work.declared.clone(), &ran).await?;
        live.close().await;
        timeline.lock().mark(Step::OutputUploadCompleted);
        if !ran.timed_out {
            self.residents.put(resident);
        }
        Ok(Some((result, ran)))
    }

    /// A process with this key, or a directory for one.
    fn resident(&self, key: &Digest) -> Result<Option<Resident>, WorkerError> {
        if let Some(resident) = self.residents.take(key) {
            return Ok(Some(resident));
        }
        let Some(permit) = self.residents.permit() else { return Ok(None) };
        Ok(Some(Resident {
            key: *key,
            name: uuid::Uuid::new_v4().simple().to_string(),
            workspace: self.workspaces.create(key, None)?,
            layout: None,
            pins: TreePins::new(),
            held: None,
            since: Instant::now(),
            _permit: permit,
        }))
    }

    /// Makes the directory the action's.
    async fn settle_in(&self, resident: &mut Resident, work: &Work<'_>) -> Result<(), WorkerError> {
        let tree = Arc::new(work.inputs.clone());
        self.pin(std::slice::from_ref(&tree), &mut resident.pins).await?;
        let (root, cache, before) = (resident.workspace.root(), self.cache.clone(), resident.layout.take());
        let parents: Vec<_> = work.declared.parents().into_iter().map(Path::to_owned).collect();
        let directories = tree.clone();
        let layout = blocking(move || {
            let open = root.try_clone().map_err(|error| WorkerError::local("the input root", error))?;
            let mut layout = lay_out(&tree, open, before, &cache)?;
            parents.iter().try_for_each(|parent| make_parents(&root, parent))?;
            layout.kept = &POINTS;
            Ok(layout)
        });
        resident.layout = Some(layout.await?);
        resident.pins.retain(|digest, _| directories.directories.contains_key(digest));
        Ok(())
    }
}

impl Resident {
    /// Writes the piece of work and makes room for its logs; whether there is one.
    async fn prepare(&self, plan: Plan) -> Result<bool, WorkerError> {
        let (root, path) = (self.workspace.root(), self.workspace.path().to_owned());
        blocking(move || {
            let Some(request) = plan.request(&|file| read_flags(&root, file)) else { return Ok(false) };
            let failed = |error: std::io::Error| WorkerError::local("writing a piece of work", error);
            for name in [WORK, "logs/stdout", "logs/stderr"] {
                match unlinkat(CWD, path.join(name), AtFlags::empty()) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(failed(error.into())),
                }
            }
            std::fs::write(path.join(WORK), request).map_err(failed)?;
            Ok(true)
        })
        .await
    }

    /// The request that starts the process; its own logs are nobody's result.
    fn startup(&self, arguments: Vec<String>, environment: HashMap<String, String>) -> RunRequest {
        RunRequest {
            arguments,
            environment_variables: environment,
            stdout_path: self.workspace.below("logs/resident-stdout"),
            stderr_path: self.workspace.below("logs/resident-stderr"),
            input_root_directory: self.workspace.below("root"),
            temporary_directory: self.workspace.below("tmp"),
            server_logs_directory: self.workspace.below("logs"),
            ..RunRequest::default()
        }
    }

    fn request(&self) -> RunRequest {
        RunRequest {
            stdout_path: self.workspace.below("logs/stdout"),
            stderr_path: self.workspace.below("logs/stderr"),
            input_root_directory: self.workspace.below("root"),
            ..RunRequest::default()
        }
    }
}

/// Starts a process, and keeps its call.
fn hold(
    runner: &RunnerClient,
    request: RunRequest,
    demands: &Demands,
    name: &str,
    form: &'static str,
) -> Held {
    let (runner, demands, name) = (runner.clone(), demands.clone(), name.to_owned());
    let task = tokio::spawn(async move {
        match runner.host(request, &demands, &name, form).await {
            Ok(ran) => tracing::debug!(name, code = ran.exit_code, "a persistent worker ended"),
            Err(status) => tracing::warn!(name, %status, "a persistent worker could not be had"),
        }
    });
    Held(task.abort_handle())
}

fn read_flags(root: &OwnedFd, file: &Path) -> Option<String> {
    let fd = open_beneath(root, file, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let file = std::fs::File::from(fd);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST_FLAGS {
        return None;
    }
    std::io::read_to_string(file).ok()
}
