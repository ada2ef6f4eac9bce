//! The worker's side of the runner's protocol: any runner that speaks Buildbarn's.
//!
//! Neighbours: `execute` runs commands through it, [`crate::runner_protocol`] names what only our own runner
//! understands. A runner that doesn't enforce the timeout is cut off a little later.

use std::path::{Path, PathBuf};
use std::time::Duration;

use grid_proto::runner::runner_client::RunnerClient as Stub;
use grid_proto::runner::{CheckReadinessRequest, RunRequest, RunResponse};
use hyper_util::rt::TokioIo;
use prost_types::Any;
use tokio::net::UnixStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use crate::error::WorkerError;
use crate::execute::demands::Demands;
use crate::retry::can_heal;
use crate::runner_protocol as protocol;

/// How long after its time a command may still be reported on by the runner: what that prepares before the command, and its end,
/// are no part of that time, but go on while the worker waits.
const LENIENCY: Duration = Duration::from_mins(1);

/// What commands may use, as the pool sets it; `None` leaves it to the runner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes of standard output and standard error, each.
    pub log_bytes: Option<u64>,
    /// Bytes of resident memory of an action's processes together.
    pub memory_bytes: Option<u64>,
    /// Processes of an action alive at once.
    pub processes: Option<u64>,
    /// Bytes of any one file.
    pub file_bytes: Option<u64>,
    /// Bytes on disk of all files that an action makes.
    pub disk_bytes: Option<u64>,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub exit_code: i32,
    /// What the runner measured.
    pub usage: Vec<Any>,
    /// Whether its time was over.
    pub timed_out: bool,
    /// Whether it is the end of a piece of work, and not of a command.
    is_work: bool,
}

/// A client of one runner. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RunnerClient {
    channel: Channel,
    socket: PathBuf,
    limits: Limits,
}

impl RunnerClient {
    /// A client of the runner on this UNIX socket; it is connected to when it is needed.
    #[must_use]
    pub fn new(socket: PathBuf, limits: Limits) -> Self {
        let to = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = to.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is never used: the connector goes to the socket.
        let channel = Endpoint::from_static("http://runner").connect_with_connector_lazy(connector);
        Self { channel, socket, limits }
    }

    /// The user that the runner runs as, as the kernel tells it.
    ///
    /// # Errors
    /// Where it can't be connected to.
    pub async fn user(&self) -> std::io::Result<u32> {
        Ok(UnixStream::connect(&self.socket).await?.peer_cred()?.uid())
    }

    /// Whether the runner is there and sees `path`, relative to the build directory.
    ///
    /// # Errors
    /// [`WorkerError::Runner`].
    pub async fn check(&self, path: &Path) -> Result<(), WorkerError> {
        let request = CheckReadinessRequest { path: path.display().to_string() };
        let answer = Stub::new(self.channel.clone()).check_readiness(request).await;
        answer.map(|_| ()).map_err(|status| WorkerError::Runner(Box::new(status)))
    }

    /// Runs a command to its end or for `timeout`. Dropping the future kills the command.
    ///
    /// # Errors
    /// [`WorkerError::Runner`] where the runner failed; nothing is known about the command then.
    pub async fn run(
        &self,
        request: RunRequest,
        timeout: Option<Duration>,
        demands: &Demands,
    ) -> Result<Ran, WorkerError> {
        let request = self.demand(request, timeout, demands);
        self.call(request, timeout).await.map_err(failure)
    }

    /// Starts a command that stays, and gives its end. Dropping the future kills it.
    ///
    /// # Errors
    /// The runner's own.
    pub async fn host(
        &self,
        request: RunRequest,
        demands: &Demands,
        name: &str,
        form: &'static str,
    ) -> Result<Ran, Status> {
        let mut request = self.demand(request, None, demands);
        say(request.metadata_mut(), protocol::RESIDENT, name);
        say(request.metadata_mut(), protocol::WORK_FORM, form);
        self.call(request, None).await
    }

    /// Has the command that stays under `name` do the work in `file`. Dropping the future kills it.
    ///
    /// # Errors
    /// `None` where that command is of no use any more; else as [`RunnerClient::run`].
    pub async fn work(
        &self,
        request: RunRequest,
        timeout: Option<Duration>,
        name: &str,
        file: &str,
    ) -> Result<Ran, Option<WorkerError>> {
        let mut request = self.demand(request, timeout, &Demands::default());
        say(request.metadata_mut(), protocol::RESIDENT, name);
        say(request.metadata_mut(), protocol::WORK, file);
        let answer = self.call(request, timeout).await;
        let failed = match answer {
            Ok(ran) if ran.is_work || ran.timed_out => return Ok(ran),
            Ok(_) => "the runner doesn't know of such".to_owned(),
            Err(status) if can_heal(&status) => return Err(Some(failure(status))),
            Err(status) => status.to_string(),
        };
        tracing::warn!(name, failed, "a persistent worker failed; the action is run without it");
        Err(None)
    }

    fn demand(
        &self,
        request: RunRequest,
        timeout: Option<Duration>,
        demands: &Demands,
    ) -> Request<RunRequest> {
        let mut request = Request::new(request);
        let millis = timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
        let metadata = request.metadata_mut();
        put(metadata, protocol::TIMEOUT_MS, millis);
        put(metadata, protocol::LOG_BYTES, self.limits.log_bytes);
        put(metadata, protocol::MEMORY_BYTES, self.limits.memory_bytes);
        put(metadata, protocol::PROCESSES, self.limits.processes);
        put(metadata, protocol::FILE_BYTES, self.limits.file_bytes);
        put(metadata, protocol::DISK_BYTES, self.limits.disk_bytes);
        put(metadata, protocol::UID, demands.uid.map(u64::from));
        put(metadata, protocol::GID, demands.gid.map(u64::from));
        if demands.network {
            metadata.insert(protocol::NETWORK, AsciiMetadataValue::from_static(protocol::ON));
        }
        request
    }

    async fn call(&self, request: Request<RunRequest>, timeout: Option<Duration>) -> Result<Ran, Status> {
        let mut stub = Stub::new(self.channel.clone());
        let call = stub.run(request);
        let answer = match timeout.and_then(|t| t.checked_add(LENIENCY)) {
            None => call.await,
            Some(limit) => match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer,
                Err(_) => return Ok(cut_off()),
            },
        };
        answer.map(read)
    }
}

/// Says a text that is known to be plain.
fn say(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        metadata.insert(AsciiMetadataKey::from_static(key), value);
    }
}

fn put(metadata: &mut MetadataMap, key: &'static str, value: Option<u64>) {
    if let Some(value) = value {
        metadata.insert(AsciiMetadataKey::from_static(key), value.into());
    }
}

fn read(answer: tonic::Response<RunResponse>) -> Ran {
    let timed_out =
        answer.metadata().get(protocol::OUTCOME).is_some_and(|outcome| outcome == protocol::TIMED_OUT);
    let is_work = answer.metadata().contains_key(protocol::WORK);
    let RunResponse { exit_code, resource_usage } = answer.into_inner();
    let exit_code = i32::try_from(exit_code).unwrap_or(i32::MAX);
    Ran { exit_code, usage: resource_usage, timed_out, is_work }
}

/// The end of a command that a runner without timeouts went on with.
fn cut_off() -> Ran {
    let exit_code = protocol::SIGNAL_BASE + rustix::process::Signal::KILL.as_raw();
    Ran { exit_code, usage: Vec::new(), timed_out: true, is_work: false }
}

/// A runner that refuses the request as such blames the command, anything else is its own trouble.
fn failure(status: Status) -> WorkerError {
    if status.code() == Code::InvalidArgument {
        WorkerError::Invalid(status.message().to_owned())
    } else {
        WorkerError::Runner(Box::new(status))
    }
}

#[cfg(test)]
mod tests {
    use grid_proto::runner::runner_server::{Runner, RunnerServer};
    use tokio::net::UnixListener;
    use tokio::time::sleep;
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::{Response, transport::Server};

    use super::*;

    /// A runner without timeouts that prepares for that long before a command that ends at once.
    struct Preparing(Duration);

    #[tonic::async_trait]
    impl Runner for Preparing {
        async fn check_readiness(&self, _: Request<CheckReadinessRequest>) -> Result<Response<()>, Status> {
            Ok(Response::new(()))
        }

        async fn run(&self, _: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
            sleep(self.0).await;
            Ok(Response::new(RunResponse::default()))
        }
    }

    async fn runs_through(preparing: Duration) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("runner");
        let incoming = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let runner = RunnerServer::new(Preparing(preparing));
        tokio::spawn(Server::builder().add_service(runner).serve_with_incoming(incoming));
        let client = RunnerClient::new(socket, Limits::default());
        let timeout = Some(Duration::from_secs(10));
        !client.run(RunRequest::default(), timeout, &Demands::default()).await.unwrap().timed_out
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_runner_prepares_takes_nothing_of_the_commands_time_unless_it_never_ends() {
        assert!(runs_through(Duration::from_secs(45)).await);
        assert!(!runs_through(Duration::from_hours(1)).await);
    }
}
