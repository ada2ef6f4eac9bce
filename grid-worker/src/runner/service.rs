//! Buildbarn's `Runner` service: from a request to a task, and from a report to an answer.
//!
//! Neighbours: `launch` runs the task, `settle` opens up what it made, [`crate::runner_protocol`] names the
//! metadata. A call that is dropped ends its command; the work goes on detached until nothing of it is left.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use grid_proto::any;
use grid_proto::resourceusage::PosixResourceUsage;
use grid_proto::runner::runner_server::Runner;
use grid_proto::runner::{CheckReadinessRequest, RunRequest, RunResponse};
use prost_types::Duration;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::isolation::{Enclosure, Isolation, NotPrepared, Points};
use super::launch::{self, LaunchError};
use super::paths;
use super::residents::{Brought, Residents};
use super::settle;
use super::supervisors::Supervisors;
use super::task::{End, Limits, Report, Task, Usage};
use crate::file_time::FileTime;
use crate::runner_protocol as protocol;
use crate::work_protocol::Form;

/// The service over one build directory.
#[derive(Clone, Debug)]
pub(super) struct RunnerService {
    build: Arc<Path>,
    supervisors: Supervisors,
    residents: Residents,
    policy: Policy,
}

/// What commands get from this runner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) isolation: Isolation,
    /// Whether those that ask for the network get it.
    pub(super) allow_network: bool,
    /// Whose files commands make.
    pub(super) owner: u32,
}

impl RunnerService {
    pub(super) fn new(build: &Path, supervisors: Supervisors, policy: Policy) -> Self {
        Self { build: build.into(), supervisors, residents: Residents::default(), policy }
    }

    /// The task of `request`, and the directories to settle after it.
    fn task(&self, request: RunRequest, demands: &Demands) -> Result<(Task, Vec<PathBuf>), Status> {
        let below = |base: &Path, field, path: &str| {
            paths::below(base, field, path).map_err(|error| Status::invalid_argument(error.to_string()))
        };
        let root = below(&self.build, "input_root_directory", &request.input_root_directory)?;
        let temporary = below(&self.build, "temporary_directory", &request.temporary_directory)?;
        let mut enclosure = self.policy.enclosure(&root, &temporary, demands)?;
        let seen_root = if enclosure.is_some() { Path::new("/") } else { &root };
        let directory = below(seen_root, "working_directory", &request.working_directory)?;
        let mut settled = vec![root];
        let mut environment: std::collections::BTreeMap<_, _> =
            request.environment_variables.into_iter().collect();
        if let Some(name) = environment.keys().find(|n| n.is_empty() || n.contains(['=', '\0'])) {
            return Err(Status::invalid_argument(format!(
                "{name:?} can't be an environment variable's name"
            )));
        }
        let nul = environment.values().chain(&request.arguments).find(|text| text.contains('\0'));
        if let Some(text) = nul {
            return Err(Status::invalid_argument(format!("{text:?} holds a NUL character")));
        }
        if !request.temporary_directory.is_empty() {
            // A default as REAPI allows it: the command's own value stands.
            let seen = if enclosure.is_some() { Path::new("/tmp") } else { &temporary };
            environment.entry("TMPDIR".to_owned()).or_insert_with(|| seen.display().to_string());
            settled.push(temporary);
        } else if let Some(enclosure) = &mut enclosure {
            // Its own: nothing is mounted over it.
            enclosure.temporary = enclosure.root.join("tmp");
        }
        let task = Task {
            arguments: request.arguments,
            environment,
            directory,
            stdout: below(&self.build, "stdout_path", &request.stdout_path)?,
            stderr: below(&self.build, "stderr_path", &request.stderr_path)?,
            limits: demands.limits.clone(),
            writable: settled.clone(),
            enclosure,
            resident: demands.resident.as_ref().map(|(_, form)| *form),
        };
        Ok((task, settled))
    }
}

impl Policy {
    /// What a command with these demands is enclosed in.
    fn enclosure(
        &self,
        root: &Path,
        temporary: &Path,
        demands: &Demands,
    ) -> Result<Option<Enclosure>, Status> {
        let (uid, gid) = (demands.uid.unwrap_or(self.owner), demands.gid.unwrap_or(self.owner));
        if self.isolation != Isolation::Bubblewrap && (uid, gid) != (self.owner, self.owner) {
            let text = format!("only bubblewrap isolation gives a command the ids {uid}:{gid}");
            return Err(Status::failed_precondition(text));
        }
        if self.isolation == Isolation::Bubblewrap && demands.network && !self.allow_network {
            return Err(Status::failed_precondition("commands of this runner are not allowed the network"));
        }
        let enclosure = Enclosure {
            isolation: self.isolation,
            root: root.to_owned(),
            temporary: temporary.to_owned(),
            network: demands.network,
            uid,
            gid,
            owns_inputs: demands.uid.is_some(),
        };
        Ok((self.isolation != Isolation::Plain).then_some(enclosure))
    }
}

/// What a request's metadata asks for.
#[derive(Debug)]
struct Demands {
    limits: Limits,
    network: bool,
    uid: Option<u32>,
    gid: Option<u32>,
    /// The name that the command stays under, and the form of its work.
    resident: Option<(String, Form)>,
}

#[tonic::async_trait]
impl Runner for RunnerService {
    async fn check_readiness(&self, request: Request<CheckReadinessRequest>) -> Result<Response<()>, Status> {
        let path = paths::below(&self.build, "path", &request.into_inner().path)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        match tokio::fs::symlink_metadata(&path).await {
            Ok(_) => Ok(Response::new(())),
            Err(error) => Err(Status::unavailable(format!("{}: {error}", path.display()))),
        }
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        let demands = demands(request.metadata())?;
        let name = text(request.metadata(), protocol::RESIDENT)?;
        if let (Some(name), Some(file)) = (name, text(request.metadata(), protocol::WORK)?) {
            let brought = Brought { name, file, limits: demands.limits, request: request.into_inner() };
            return self.residents.work(&self.build, self.policy.owner, brought).await;
        }
        let mut seat = demands.resident.as_ref().map(|(name, _)| self.residents.seat(name)).transpose()?;
        let (task, settled) = self.task(request.into_inner(), &demands)?;
        let abandoned = CancellationToken::new();
        let _abandon = abandoned.clone().drop_guard();
        let (supervisors, owner) = (self.supervisors.clone(), self.policy.owner);
        let work = tokio::spawn(async move {
            let since = Some(FileTime::now());
            let points = task.enclosure.as_ref().map(Enclosure::prepare).transpose();
            let points = points.map_err(LaunchError::from)?;
            let report = match &mut seat {
                Some(seat) => launch::host(&supervisors, &task, &abandoned, &mut seat.work).await,
                None => launch::run(&supervisors, &task, &abandoned).await,
            };
            let settled = tokio::task::spawn_blocking(move || {
                let settled = settled.iter().try_for_each(|root| settle::settle(root, owner, since));
                points.into_iter().for_each(Points::remove);
                settled
            });
            if let Ok(Err(error)) = settled.await {
                tracing::warn!(%error, "some of a command's files could not be made readable for the worker");
            }
            tokio::spawn(async move { supervisors.prepare() });
            report
        });
        let report = work.await.map_err(|error| Status::internal(error.to_string()))?;
        answer(report)
    }
}

fn demands(metadata: &MetadataMap) -> Result<Demands, Status> {
    let limits = Limits {
        timeout_ms: number(metadata, protocol::TIMEOUT_MS)?,
        log_bytes: number(metadata, protocol::LOG_BYTES)?,
        memory_bytes: number(metadata, protocol::MEMORY_BYTES)?,
        processes: number(metadata, protocol::PROCESSES)?,
        file_bytes: number(metadata, protocol::FILE_BYTES)?,
        disk_bytes: number(metadata, protocol::DISK_BYTES)?,
    };
    let network = metadata.get(protocol::NETWORK).is_some_and(|value| value == protocol::ON);
    let (uid, gid) = (number(metadata, protocol::UID)?, number(metadata, protocol::GID)?);
    let form = match text(metadata, protocol::WORK_FORM)? {
        Some(name) => Some(Form::from_name(&name).ok_or_else(|| {
            Status::invalid_argument(format!(
                "metadata {}: {name:?} is neither proto nor json",
                protocol::WORK_FORM
            ))
        })?),
        None => None,
    };
    let resident = text(metadata, protocol::RESIDENT)?.zip(form);
    Ok(Demands { limits, network, uid, gid, resident })
}

fn text(metadata: &MetadataMap, key: &'static str) -> Result<Option<String>, Status> {
    let value = metadata.get(key).map(|value| value.to_str().map(str::to_owned)).transpose();
    value.map_err(|_| Status::invalid_argument(format!("metadata {key} is not plain text")))
}

fn number<N: FromStr>(metadata: &MetadataMap, key: &'static str) -> Result<Option<N>, Status> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    value
        .to_str()
        .ok()
        .and_then(|text| N::from_str(text).ok())
        .map(Some)
        .ok_or_else(|| Status::invalid_argument(format!("metadata {key} is not a whole number")))
}

fn answer(report: Result<Report, LaunchError>) -> Result<Response<RunResponse>, Status> {
    let report = report.map_err(|error| match error {
        // The action's own doing: it fails everywhere.
        LaunchError::Enclosure(NotPrepared::InTheWay(_)) => Status::invalid_argument(error.to_string()),
        error => {
            tracing::error!(%error, "a command could not be run to its end");
            Status::internal(error.to_string())
        }
    })?;
    // What SIGKILL gives, for the two ends that the runner itself brought about.
    let killed = protocol::SIGNAL_BASE + rustix::process::Signal::KILL.as_raw();
    let mut signal = None;
    let (code, outcome) = match report.end {
        End::Exited(code) => (code, None),
        End::NotStarted { code, .. } => (code, None),
        End::Signalled(number) => {
            signal = Some(number);
            (protocol::SIGNAL_BASE + number, None)
        }
        // A command that stayed: whoever brought it work was told how it ended.
        End::Answered { .. } | End::Broken(_) => (killed, None),
        End::TimedOut => (killed, Some(protocol::TIMED_OUT)),
        End::OverLimit => (killed, None),
        End::NotEnclosed(reason) => {
            tracing::error!(reason, "a command could not be enclosed");
            return Err(Status::internal(format!("the command could not be enclosed: {reason}")));
        }
        End::Lacking(reason) => {
            tracing::error!(reason, "a command could not be started");
            return Err(Status::internal(format!("the command could not be started: {reason}")));
        }
        End::Abandoned => return Err(Status::cancelled("the call was dropped")),
    };
    let usage = any::pack(&usage(&report.usage, signal));
    let mut response = Response::new(RunResponse { exit_code: code.into(), resource_usage: vec![usage] });
    if let Some(outcome) = outcome {
        let outcome = tonic::metadata::MetadataValue::from_static(outcome);
        response.metadata_mut().insert(protocol::OUTCOME, outcome);
    }
    Ok(response)
}

fn usage(usage: &Usage, signal: Option<i32>) -> PosixResourceUsage {
    let duration = |micros: i64| Duration {
        seconds: micros / 1_000_000,
        nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
    };
    PosixResourceUsage {
        user_time: Some(duration(usage.user_us)),
        system_time: Some(duration(usage.system_us)),
        maximum_resident_set_size: usage.max_rss_bytes,
        page_reclaims: usage.minor_faults,
        page_faults: usage.major_faults,
        block_input_operations: usage.block_reads,
        block_output_operations: usage.block_writes,
        voluntary_context_switches: usage.voluntary_switches,
        involuntary_context_switches: usage.involuntary_switches,
        termination_signal: signal.map(signal_name).unwrap_or_default(),
        ..PosixResourceUsage::default()
    }
}

/// The signal's name without `SIG`, as Buildbarn gives it; its number where it has none.
fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| number.to_string(), |signal| signal.as_str().trim_start_matches("SIG").to_owned())
}
