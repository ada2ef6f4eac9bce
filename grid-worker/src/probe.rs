//! The proof that a runner works: a command run through it as any action's would be, before any lease.
//!
//! The command is this program itself, staged from the cache, so it runs in any image. It makes what actions
//! make and locks what they lock, and the worker looks whether it can read it; who owns it tells the runner's
//! user. Neighbours: `health` calls [`prove`], `grid-worker probe` is [`run`].

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use grid_core::{Digest, DigestFunction};
use grid_proto::runner::RunRequest;
use rustix::fs::{AtFlags, statat};

use crate::error::WorkerError;
use crate::execute::demands::Demands;
use crate::execute::workspace::{Workspace, Workspaces};
use crate::runner_client::RunnerClient;

/// How long the probe may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the probe makes.
const LOCKED: &str = "locked";
const INNER: &str = "locked/inner";
const TEXT: &str = "made by the probe";

/// How the runner is proved.
#[derive(Clone, Debug)]
pub enum Probe {
    /// By this program, whose content this is.
    Own(bytes::Bytes),
    /// By a command of the image, which must succeed.
    Command(Vec<String>),
    /// Not at all.
    None,
}

impl Probe {
    /// The probe of a setting.
    ///
    /// # Errors
    /// Where this program's own file can't be read.
    pub fn new(setting: Option<&str>) -> std::io::Result<Self> {
        match setting {
            None => Ok(Self::Own(std::fs::read("/proc/self/exe")?.into())),
            Some("none") => Ok(Self::None),
            Some(command) => Ok(Self::Command(command.split_whitespace().map(str::to_owned).collect())),
        }
    }
}

/// Runs the probe. Gives the runner's user, where the probe tells it.
///
/// # Errors
/// What a worker with this runner could not do.
pub async fn prove(
    probe: &Probe,
    runner: &RunnerClient,
    workspaces: &Workspaces,
) -> Result<Option<u32>, WorkerError> {
    let arguments = match probe {
        Probe::None => return runner.check(Path::new("")).await.map(|()| None),
        Probe::Own(_) => vec!["./grid-worker".to_owned(), crate::config::PROBE.to_owned()],
        Probe::Command(command) => command.clone(),
    };
    let workspace = workspaces.create(&Digest::of(DigestFunction::Sha256, b"probe"), None)?;
    runner.check(Path::new(&workspace.below("root"))).await?;
    if let Probe::Own(content) = probe {
        let (content, path) = (content.clone(), workspace.path().join("root/grid-worker"));
        let written = tokio::task::spawn_blocking(move || {
            std::fs::write(&path, content)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o555))
        });
        written
            .await
            .map_err(|error| WorkerError::Internal(error.to_string()))?
            .map_err(|error| WorkerError::local("staging the probe", error))?;
    }
    let request = RunRequest {
        arguments,
        environment_variables: HashMap::from([("GRID_PROBE".to_owned(), TEXT.to_owned())]),
        stdout_path: workspace.below("logs/stdout"),
        stderr_path: workspace.below("logs/stderr"),
        input_root_directory: workspace.below("root"),
        temporary_directory: workspace.below("tmp"),
        ..RunRequest::default()
    };
    let ran = runner.run(request, Some(PATIENCE), &Demands::default()).await?;
    if ran.exit_code != 0 {
        let said = std::fs::read_to_string(workspace.path().join("logs/stderr")).unwrap_or_default();
        return Err(failed(&format!("it ended with {}: {}", ran.exit_code, said.trim())));
    }
    if matches!(probe, Probe::Own(_)) { look(&workspace).map(Some) } else { Ok(None) }
}

/// Looks at what the probe made; gives its owner.
fn look(workspace: &Workspace) -> Result<u32, WorkerError> {
    let root = workspace.root();
    let stat = statat(&root, INNER, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed(&format!("what it made can't be seen: {error}")))?;
    match std::fs::read_to_string(workspace.path().join("root").join(INNER)) {
        Ok(text) if text == TEXT => Ok(stat.st_uid),
        Ok(_) => Err(failed("what it wrote is not what it was given in its environment")),
        Err(error) => Err(failed(&format!("what it made can't be read: {error}"))),
    }
}

fn failed(why: &str) -> WorkerError {
    WorkerError::Runner(Box::new(tonic::Status::failed_precondition(format!("the probe failed: {why}"))))
}

/// The probe itself, run by the runner.
///
/// # Errors
/// Where it can't do what actions must be able to do.
pub fn run() -> std::io::Result<()> {
    std::fs::create_dir(LOCKED)?;
    std::fs::write(INNER, std::env::var("GRID_PROBE").unwrap_or_default())?;
    std::fs::set_permissions(INNER, PermissionsExt::from_mode(0o600))?;
    std::fs::set_permissions(LOCKED, PermissionsExt::from_mode(0o500))
}
