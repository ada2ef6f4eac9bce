//! RWAPI's `Bots` service, as BuildGrid's bots and buildbox-worker speak it.
//!
//! A lease is given in the state ACTIVE, a lease that the answer leaves out is cancelled, and a call is held
//! until there is something to say. What a bot is told it holds is always what the store says it holds.
//! Neighbours: [`crate::execution`] puts the jobs there; here their results are made durable in the action cache
//! before the scheduler, and so any client, hears of them.

mod deadline;
mod logs;
mod remote_logs;
mod results;
mod session;
pub(crate) mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_proto::rwapi::bots_server::Bots;
use grid_proto::rwapi::{
    BotSession, CreateBotSessionRequest, PostBotEventTempRequest, UpdateBotSessionRequest,
};
use grid_scheduler::engine::{BotReport, Synced};
use grid_scheduler::ids::SessionId;
use grid_scheduler::service::Poll;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::execution::ExecutionInstance;
use crate::logstream::LogStreams;
use crate::{Instances, RpcError, to_status};

pub use crate::trailers::Trailing;
pub(crate) use logs::ABOUT_LEASE;
use logs::LeaseLogs;
pub use remote_logs::RemoteLogs;

/// The header of an answer to a bot that drains: the seconds until what still runs is taken back.
const DRAIN: &str = "grid-drain";

/// How soon a bot is to call again that runs actions and is not held meanwhile: BuildBox's worker takes four fifths of
/// the time to `expire_time` between its calls, a minute at most, and hears of a cancelled lease with the next one.
const PACE: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone, Debug)]
pub struct BotsService {
    instances: Instances<ExecutionInstance>,
    logs: Option<LogStreams>,
}

impl BotsService {
    /// The service for these instances; an instance `*` serves bots that run jobs of every instance. With log streams,
    /// this server's or an instance's [`ExecutionInstance::logs_elsewhere`], what actions write is told to clients while
    /// it is written. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(instances: Instances<ExecutionInstance>, logs: Option<LogStreams>) -> Self {
        let service = Self { instances, logs };
        let schedulers: BTreeMap<usize, &Arc<ExecutionInstance>> = service
            .instances
            .iter()
            .map(|(_, instance)| (Arc::as_ptr(&instance.scheduler).addr(), instance))
            .collect();
        for instance in schedulers.values() {
            if let Some(logs) = service.logs(instance) {
                logs::follow(&logs, instance.scheduler.streams_over());
            }
        }
        service
    }

    /// Where the streams of an instance's leases are made; what its scheduler says comes first.
    fn logs(&self, instance: &ExecutionInstance) -> Option<LeaseLogs> {
        let elsewhere = instance.logs_elsewhere.clone().map(LeaseLogs::Elsewhere);
        elsewhere.or_else(|| self.logs.clone().map(LeaseLogs::Here))
    }

    /// The instance and identifier in a session's name, `INSTANCE/UUID`.
    async fn locate(&self, name: &str) -> Result<(&str, &Arc<ExecutionInstance>, SessionId), RpcError> {
        let (parent, id) = name.rsplit_once('/').unwrap_or(("", name));
        let id = id.parse().map_err(|_| {
            let problem =
                format!("{name:?} is no session's name; expected INSTANCE/UUID as the server gave it");
            RpcError::field("bot_session.name", problem)
        })?;
        let (parent, instance) = self.instances.entry(parent).await?;
        Ok((parent.as_str(), instance, SessionId(id)))
    }

    async fn answer(
        &self,
        parent: &str,
        instance: &ExecutionInstance,
        headers: &MetadataMap,
        report: BotReport,
        sent: BotSession,
    ) -> Result<Response<BotSession>, Status> {
        let poll = poll(instance, headers, &sent);
        let began = Instant::now();
        let mut synced: Synced =
            instance.scheduler.report(report, poll).await.map_err(|error| to_status(&error))?;
        if let Some(logs) = self.logs(instance) {
            logs::prepare(&instance.scheduler, &logs, &mut synced).await;
        }
        let pace = (!is_held(instance, poll, &synced)).then(|| began.elapsed() + PACE);
        let known = sent.leases.iter().map(|lease| lease.id.clone()).collect();
        let mut answer = Response::new(session::render(parent, sent, &synced, pace));
        if let Some(until) = synced.session.drain_until {
            let left = until.since(synced.session.last_seen).as_secs();
            answer.metadata_mut().insert(DRAIN, left.into());
        }
        let room = if poll.when_full { logs::AMPLE_ROOM } else { logs::ROOM };
        logs::tell(&synced.held, &known, room, answer.metadata_mut());
        Ok(answer)
    }
}

/// A full bot hears of cancelled leases while it waits only if it says that it can bear to
/// (config `long-poll` = `always`): BuildGrid answers such bots at once, and its bots count on it.
fn poll(instance: &ExecutionInstance, headers: &MetadataMap, sent: &BotSession) -> Poll {
    let configs = sent.worker.iter().flat_map(|worker| &worker.configs);
    let when_full = configs.into_iter().any(|c| c.key == "long-poll" && c.value == "always");
    let running = !sent.leases.is_empty() && !instance.long_poll_during_execution && !when_full;
    let wait = if running { Duration::ZERO } else { deadline::hold(headers, instance.scheduler.lifetime()) };
    Poll { wait, when_full }
}

/// Whether the bot's next call is held until there is something to say.
fn is_held(instance: &ExecutionInstance, poll: Poll, synced: &Synced) -> bool {
    let room = synced.held.len() < usize::try_from(synced.session.capacity).unwrap_or(usize::MAX);
    poll.when_full || synced.held.is_empty() || (room && instance.long_poll_during_execution)
}

#[tonic::async_trait]
impl Bots for BotsService {
    async fn create_bot_session(
        &self,
        request: Request<CreateBotSessionRequest>,
    ) -> Result<Response<BotSession>, Status> {
        let (headers, _, request) = request.into_parts();
        let refuse = |error: RpcError| to_status(&error);
        let (parent, instance) = self.instances.entry(&request.parent).await.map_err(refuse)?;
        let sent = request.bot_session.ok_or_else(|| refuse(RpcError::field("bot_session", "is not set")))?;
        let standing = session::standing(parent.as_str(), &sent).map_err(refuse)?;
        let opened = instance.scheduler.open_session(standing).await.map_err(|error| to_status(&error))?;
        let report = session::report(&opened, &sent, instance.scheduler.lifetime());
        let fresh = BotSession { leases: Vec::new(), ..sent };
        self.answer(parent.as_str(), instance, &headers, report, fresh).await
    }

    async fn update_bot_session(
        &self,
        request: Request<UpdateBotSessionRequest>,
    ) -> Result<Response<BotSession>, Status> {
        let (headers, _, request) = request.into_parts();
        let refuse = |error: RpcError| to_status(&error);
        let sent = request.bot_session.ok_or_else(|| refuse(RpcError::field("bot_session", "is not set")))?;
        if request.name != sent.name {
            let problem = format!("is {:?}, but the request is for {:?}", sent.name, request.name);
            return Err(refuse(RpcError::field("bot_session.name", problem)));
        }
        let (parent, instance, id) = self.locate(&request.name).await.map_err(refuse)?;
        let news = results::take(&self.instances, instance, id, &headers, &sent.leases).await?;
        let lifetime = instance.scheduler.lifetime();
        let report = session::update(id, &sent, news, lifetime).map_err(refuse)?;
        self.answer(parent, instance, &headers, report, sent).await
    }

    async fn post_bot_event_temp(
        &self,
        request: Request<PostBotEventTempRequest>,
    ) -> Result<Response<()>, Status> {
        let event = request.into_inner();
        let (_, _, id) = self.locate(&event.name).await.map_err(|error| to_status(&error))?;
        tracing::info!(session = %id, kind = event.r#type, message = event.msg, "bot event");
        Ok(Response::new(()))
    }
}
