//! Runs a [`Task`] in a supervisor, and gives its [`Report`].
//!
//! Neighbours: `service` calls it, `supervisors` starts the processes. It refuses to interpret the
//! report.

use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::isolation::NotPrepared;
use super::residents::Work;
use super::supervisors::Supervisors;
use super::task::{End, Report, Task};

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
    supervisors: &Supervisors,
    task: &Task,
    abandoned: &CancellationToken,
) -> Result<Report, LaunchError> {
    let _running = supervisors.enter();
    let mut supervisor = supervisors.with(task).await?;
    let report = tokio::select! {
        report = supervisor.report() => report?,
        () = abandoned.cancelled() => None,
    };
    supervisor.end(report).await
}

/// As [`run`], of a command that stays; it is brought `work` until it ends, or until nobody waits for a piece of it.
pub(super) async fn host(
    supervisors: &Supervisors,
    task: &Task,
    abandoned: &CancellationToken,
    work: &mut mpsc::Receiver<Work>,
) -> Result<Report, LaunchError> {
    let _running = supervisors.enter();
    let mut supervisor = supervisors.with(task).await?;
    loop {
        let Work { job, request, mut done } = tokio::select! {
            Some(work) = work.recv() => work,
            report = supervisor.report() => return supervisor.end(report?).await,
            () = abandoned.cancelled() => return supervisor.end(None).await,
        };
        let exchange = async {
            supervisor.bring(&job, &request).await?;
            supervisor.report().await
        };
        let report = tokio::select! {
            report = exchange => report?,
            () = done.closed() => None,
            () = abandoned.cancelled() => None,
        };
        match report {
            Some(report) if matches!(report.end, End::Answered { .. }) => {
                // Who doesn't wait any longer has his answer dropped.
                let _ = done.send(report);
            }
            last => {
                let report = supervisor.end(last).await?;
                let _ = done.send(report.clone());
                return Ok(report);
            }
        }
    }
}
