//! Runs a [`Task`] in a supervisor, and gives its [`Report`].
//!
//! Neighbours: `service` calls it, `supervise` is the other end of the pipes. It refuses to interpret the
//! report.

use std::process::Stdio;

use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::isolation::NotPrepared;
use super::orphans::{Children, Registration};
use super::residents::Work;
use super::task::{End, Job, Report, Task};

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
    let mut supervisor = Supervisor::start(children, task).await?;
    let report = tokio::select! {
        report = supervisor.report() => report?,
        () = abandoned.cancelled() => None,
    };
    supervisor.end(report).await
}

/// As [`run`], of a command that stays; it is brought `work` until it ends, or until nobody waits for a piece of it.
pub(super) async fn host(
    children: &Children,
    task: &Task,
    abandoned: &CancellationToken,
    work: &mut mpsc::Receiver<Work>,
) -> Result<Report, LaunchError> {
    let mut supervisor = Supervisor::start(children, task).await?;
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

/// A supervisor that is alive.
struct Supervisor {
    child: Child,
    registration: Registration,
    /// Closed, it kills what it watches over.
    lifeline: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
    /// What was read of the next report.
    line: Vec<u8>,
}

impl Supervisor {
    async fn start(children: &Children, task: &Task) -> Result<Self, LaunchError> {
        let mut command = Command::new(SELF);
        command.arg0("grid-runner").arg("supervise").stdin(Stdio::piped()).stdout(Stdio::piped());
        let (mut child, registration) = children.start(&mut command).map_err(LaunchError::Start)?;
        let lost = || LaunchError::Pipe(std::io::ErrorKind::BrokenPipe.into());
        let mut stdin = child.stdin.take().ok_or_else(lost)?;
        let reports = BufReader::new(child.stdout.take().ok_or_else(lost)?);
        send(&mut stdin, task, &[]).await?;
        Ok(Self { child, registration, lifeline: Some(stdin), reports, line: Vec::new() })
    }

    async fn bring(&mut self, job: &Job, request: &[u8]) -> Result<(), LaunchError> {
        match &mut self.lifeline {
            Some(stdin) => send(stdin, job, request).await,
            None => Ok(()),
        }
    }

    /// The next report; `None` where there is none any more. Given up in between, it goes on where it was.
    async fn report(&mut self) -> Result<Option<Report>, LaunchError> {
        self.reports.read_until(b'\n', &mut self.line).await.map_err(LaunchError::Pipe)?;
        let line = std::mem::take(&mut self.line);
        if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
    }

    /// Waits for its end, brought about where `last` isn't it; gives the last report.
    async fn end(mut self, mut last: Option<Report>) -> Result<Report, LaunchError> {
        drop(self.lifeline.take());
        while let Some(report) = self.report().await? {
            last = Some(report);
        }
        let status = self.child.wait().await.map_err(LaunchError::Pipe)?;
        drop(self.registration);
        last.ok_or_else(|| LaunchError::NoReport(status.to_string()))
    }
}

async fn send(stdin: &mut ChildStdin, message: &impl Serialize, more: &[u8]) -> Result<(), LaunchError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let sent = async {
        stdin.write_all(&line).await?;
        stdin.write_all(more).await?;
        stdin.flush().await
    };
    sent.await.map_err(LaunchError::Pipe)
}
