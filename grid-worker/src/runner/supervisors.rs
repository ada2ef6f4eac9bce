//! [`Supervisors`]: the processes that watch over commands, and one that is ready for the next command.
//!
//! To start a process takes longer than to run a short command, so the next one is started when a command has ended and
//! nobody waits. None is ever ready while a command runs, for commands are of the same user and could stop it. Neighbours:
//! `launch` brings tasks, `supervise` is the other end of the pipes.

use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::launch::LaunchError;
use super::orphans::{Children, Registration};
use super::task::{Report, Task};

/// This process's own program: the name stays right when the file is replaced or lies outside the container.
pub(super) const SELF: &str = "/proc/self/exe";

/// The supervisors of a runner.
#[derive(Clone, Debug)]
pub(super) struct Supervisors {
    children: Children,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Commands under way.
    running: usize,
    ready: Option<Supervisor>,
}

/// A command is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Mutex<State>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

impl Supervisors {
    /// None so far.
    pub(super) fn new(children: Children) -> Self {
        Self { children, state: Arc::default() }
    }

    /// A command begins.
    pub(super) fn enter(&self) -> Running {
        self.state.lock().running += 1;
        Running(Arc::clone(&self.state))
    }

    /// A supervisor that has been told what to do.
    pub(super) async fn with(&self, task: &Task) -> Result<Supervisor, LaunchError> {
        let ready = self.state.lock().ready.take();
        if let Some(mut ready) = ready
            && ready.bring(task, &[]).await.is_ok()
        {
            return Ok(ready);
        }
        let mut fresh = Supervisor::start(&self.children)?;
        fresh.bring(task, &[]).await?;
        Ok(fresh)
    }

    /// Makes one ready, where no command is under way.
    pub(super) fn prepare(&self) {
        let mut state = self.state.lock();
        if state.running == 0 && state.ready.is_none() {
            // Where none can be started, the next command says so.
            state.ready = Supervisor::start(&self.children).ok();
        }
    }
}

/// A supervisor that is alive.
#[derive(Debug)]
pub(super) struct Supervisor {
    child: Child,
    registration: Registration,
    /// Closed, it kills what it watches over.
    lifeline: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
    /// What was read of the next report.
    line: Vec<u8>,
}

impl Supervisor {
    fn start(children: &Children) -> Result<Self, LaunchError> {
        let mut command = Command::new(SELF);
        command.arg0("grid-runner").arg("supervise").stdin(Stdio::piped()).stdout(Stdio::piped());
        let (mut child, registration) = children.start(&mut command).map_err(LaunchError::Start)?;
        let lost = || LaunchError::Pipe(std::io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(lost)?;
        let reports = BufReader::new(child.stdout.take().ok_or_else(lost)?);
        Ok(Self { child, registration, lifeline: Some(stdin), reports, line: Vec::new() })
    }

    /// Tells it what to do, with the bytes that belong to it.
    pub(super) async fn bring(&mut self, message: &impl Serialize, more: &[u8]) -> Result<(), LaunchError> {
        match &mut self.lifeline {
            Some(stdin) => send(stdin, message, more).await,
            None => Ok(()),
        }
    }

    /// The next report; `None` where there is none any more. Given up in between, it goes on where it was.
    pub(super) async fn report(&mut self) -> Result<Option<Report>, LaunchError> {
        self.reports.read_until(b'\n', &mut self.line).await.map_err(LaunchError::Pipe)?;
        let line = std::mem::take(&mut self.line);
        if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
    }

    /// Waits for its end, brought about where `last` isn't it; gives the last report.
    pub(super) async fn end(mut self, mut last: Option<Report>) -> Result<Report, LaunchError> {
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
