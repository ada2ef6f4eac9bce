//! [`Residents`]: commands that stay, by the names that the worker gave them, and the work that they are brought.
//!
//! A resident is there as long as the call that started it, and does one piece of work at a time. The answers of its
//! work become the log of the action. Neighbours: `service` has the calls, `launch` the supervisors, `reside` the other
//! end of the pipes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grid_proto::runner::{RunRequest, RunResponse};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::{Response, Status};

use super::log_file::LogFile;
use super::paths;
use super::settle;
use super::task::{End, Job, Limits, Report};
use crate::file_time::FileTime;
use crate::runner_protocol as protocol;

/// How long work may come before its resident.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest file with a piece of work.
const LARGEST_WORK: u64 = 64 << 20;

/// A piece of work on its way to a resident.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) job: Job,
    pub(super) request: Vec<u8>,
    /// Closed, nobody waits for it any more.
    pub(super) done: oneshot::Sender<Report>,
}

/// All residents of a runner.
#[derive(Clone, Debug, Default)]
pub(super) struct Residents {
    seats: Arc<Mutex<HashMap<String, mpsc::Sender<Work>>>>,
    came: Arc<Notify>,
}

/// A resident's place; free when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    name: String,
    residents: Residents,
    pub(super) work: mpsc::Receiver<Work>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.residents.seats.lock().remove(&self.name);
    }
}

/// What a call with a piece of work says.
#[derive(Debug)]
pub(super) struct Brought {
    /// The resident's name.
    pub(super) name: String,
    /// The file with the request, as the caller knows it.
    pub(super) file: String,
    pub(super) limits: Limits,
    pub(super) request: RunRequest,
}

impl Residents {
    /// A place for a resident of this name.
    pub(super) fn seat(&self, name: &str) -> Result<Seat, Status> {
        let (sender, work) = mpsc::channel(1);
        match self.seats.lock().entry(name.to_owned()) {
            Entry::Occupied(_) => {
                return Err(Status::already_exists(format!("there is a resident {name:?} already")));
            }
            Entry::Vacant(seat) => seat.insert(sender),
        };
        self.came.notify_waiters();
        Ok(Seat { name: name.to_owned(), residents: self.clone(), work })
    }

    /// Has a piece of work done, and makes the logs of it.
    pub(super) async fn work(
        &self,
        build: &Path,
        owner: u32,
        brought: Brought,
    ) -> Result<Response<RunResponse>, Status> {
        let below = |field, path: &str| {
            paths::below(build, field, path).map_err(|error| Status::invalid_argument(error.to_string()))
        };
        let file = below(protocol::WORK, &brought.file)?;
        let root = below("input_root_directory", &brought.request.input_root_directory)?;
        let stdout = below("stdout_path", &brought.request.stdout_path)?;
        let stderr = below("stderr_path", &brought.request.stderr_path)?;
        let failed = |error: std::io::Error| Status::internal(format!("a piece of work: {error}"));
        if tokio::fs::symlink_metadata(&file).await.map_err(failed)?.len() > LARGEST_WORK {
            return Err(Status::invalid_argument(format!(
                "{} is larger than {LARGEST_WORK} bytes",
                brought.file
            )));
        }
        let request = tokio::fs::read(&file).await.map_err(failed)?;
        let since = FileTime::now();
        let report = self.hand_over(&brought.name, request, brought.limits).await?;
        let (code, output, timed_out) = match report.end {
            End::Answered { exit_code, output } => (exit_code, output, false),
            End::TimedOut => (killed(), String::new(), true),
            end => {
                return Err(Status::failed_precondition(format!(
                    "the resident is of no use any more: {}",
                    how(&end)
                )));
            }
        };
        let made =
            tokio::task::spawn_blocking(move || finish(&root, owner, since, [stdout, stderr], &output));
        made.await.map_err(|error| Status::internal(error.to_string()))?.map_err(failed)?;
        let mut response = Response::new(RunResponse { exit_code: code.into(), resource_usage: Vec::new() });
        let metadata = response.metadata_mut();
        metadata.insert(protocol::WORK, tonic::metadata::MetadataValue::from_static(protocol::ON));
        if timed_out {
            let outcome = tonic::metadata::MetadataValue::from_static(protocol::TIMED_OUT);
            metadata.insert(protocol::OUTCOME, outcome);
        }
        Ok(response)
    }

    async fn hand_over(&self, name: &str, request: Vec<u8>, limits: Limits) -> Result<Report, Status> {
        let gone = || Status::not_found(format!("there is no resident {name:?}"));
        let seat = async {
            loop {
                let came = self.came.notified();
                if let Some(seat) = self.seats.lock().get(name).cloned() {
                    return seat;
                }
                came.await;
            }
        };
        let seat = tokio::time::timeout(PATIENCE, seat).await.map_err(|_| gone())?;
        let (done, report) = oneshot::channel();
        let job = Job { bytes: request.len(), limits };
        seat.send(Work { job, request, done }).await.map_err(|_| gone())?;
        report.await.map_err(|_| gone())
    }
}

/// Opens up what was made, and writes the logs: the command itself has none for a single piece of work.
fn finish(
    root: &Path,
    owner: u32,
    since: FileTime,
    [stdout, stderr]: [PathBuf; 2],
    output: &str,
) -> std::io::Result<()> {
    if let Err(error) = settle::settle(root, owner, Some(since)) {
        tracing::warn!(%error, "some of a command's files could not be made readable for the worker");
    }
    LogFile::create(&stdout)?;
    let (_, log) = LogFile::create(&stderr)?;
    log.add(output);
    Ok(())
}

fn killed() -> i32 {
    protocol::SIGNAL_BASE + rustix::process::Signal::KILL.as_raw()
}

fn how(end: &End) -> String {
    match end {
        End::Broken(how)
        | End::NotEnclosed(how)
        | End::Lacking(how)
        | End::NotStarted { reason: how, .. } => how.clone(),
        End::Exited(code) => format!("it ended with {code}"),
        End::Signalled(signal) => format!("signal {signal} ended it"),
        End::OverLimit => "it used too much".to_owned(),
        End::Abandoned | End::TimedOut | End::Answered { .. } => "nobody waits for it".to_owned(),
    }
}
