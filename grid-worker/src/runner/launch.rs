//! Runs a [`Task`] in a supervisor, and gives its [`Report`].
//!
//! Neighbours: `service` calls it, `supervise` is the other end of the pipes. It refuses to interpret the
//! report.

use std::process::Stdio;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::isolation::NotPrepared;
use super::orphans::Children;
use super::task::{Report, Task};

/// This process's own program: the name stays right when the file is replaced or lies outside the container.
pub(super) const SELF: &str = "/proc/self/exe";

/// Why there is no report: none of these says anything about the command.
#[derive(Debug, Error)]
pub(super) enum LaunchError {
    /// No process could be had.
    #[error("can't start a supervisor: {0}")]
    Start(#[source] std::io::Error),
    /// It went away without a word: killed by the command, or for want of memory.
    #[error("the supervisor ended without a report ({0})")]
    NoReport(String),
    /// The pipes broke.
    #[error("can't talk to the supervisor: {0}")]
    Pipe(#[source] std::io::Error),
    /// The input root can't be made one.
    #[error("the command can't be enclosed: {0}")]
    Enclosure(#[from] NotPrepared),
    /// A defect.
    #[error("the supervisor's report can't be parsed: {0}")]
    Report(#[from] serde_json::Error),
}

/// Runs `task` to its end, or kills it once `abandoned` is cancelled. In both cases nothing of it is alive
/// when this returns, and it must be awaited to the end.
pub(super) async fn run(
    children: &Children,
    task: &Task,
    abandoned: &CancellationToken,
) -> Result<Report, LaunchError> {
    let mut command = Command::new(SELF);
    command.arg0("grid-runner").arg("supervise").stdin(Stdio::piped()).stdout(Stdio::piped());
    let (mut child, registration) = children.start(&mut command).map_err(LaunchError::Start)?;
    let mut lifeline = child.stdin.take();
    let mut report = Vec::new();
    if let Some(stdin) = &mut lifeline {
        send(stdin, task).await.map_err(LaunchError::Pipe)?;
    }
    if let Some(stdout) = &mut child.stdout {
        let mut read = std::pin::pin!(stdout.read_to_end(&mut report));
        let done = tokio::select! {
            done = &mut read => Some(done),
            () = abandoned.cancelled() => None,
        };
        let done = if let Some(done) = done {
            done
        } else {
            drop(lifeline.take());
            read.await
        };
        done.map_err(LaunchError::Pipe)?;
    }
    let status = child.wait().await.map_err(LaunchError::Pipe)?;
    drop(registration);
    if report.is_empty() {
        return Err(LaunchError::NoReport(status.to_string()));
    }
    Ok(serde_json::from_slice(&report)?)
}

async fn send(stdin: &mut ChildStdin, task: &Task) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(task)?;
    line.push(b'\n');
    stdin.write_all(&line).await?;
    stdin.flush().await
}
