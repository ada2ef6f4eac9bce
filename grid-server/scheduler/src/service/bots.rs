//! What bots ask of a [`Scheduler`]: a session, work, and that their results are taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use super::Scheduler;
use super::dispatcher::Wake;
use super::observer::SchedulerEvent;
use super::patience::patiently;
use crate::SchedulerError;
use crate::assign::Slots;
use crate::engine::{self, BotReport, Registration, Synced};
use crate::history::Usage;
use crate::ids::{JobId, SessionId};
use crate::job::{Job, Streams};
use crate::session::{BotStatus, News, ReportedLease, Session};

/// How long a bot's call may be held.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    /// At most so long; zero for an answer at once.
    pub wait: Duration,
    /// Whether a bot without room is held too, to hear of cancelled leases.
    pub when_full: bool,
}

/// A bot that wants a session.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The instance it registers with; `*` serves all.
    pub instance: String,
    /// Its own name.
    pub bot_id: String,
    /// What it has.
    pub properties: crate::properties::Properties,
    /// How many leases it takes at once.
    pub capacity: u32,
    /// Bots of higher priority are given work first.
    pub priority: i32,
    /// What it says of itself.
    pub status: BotStatus,
    /// The declared pool that it is of; empty for none.
    pub worker_pool: String,
    /// The node that it runs on; empty where it does not say.
    pub node: String,
    /// The version of its program; empty where it does not say.
    pub version: String,
}

impl Scheduler {
    /// Opens a session for a bot; the one that it had before ends.
    ///
    /// # Errors
    /// The store's.
    pub async fn open_session(&self, bot: Standing) -> Result<Session, SchedulerError> {
        let pool = if bot.instance == "*" { "*" } else { self.pool(&bot.instance) };
        let session = Session {
            id: SessionId(self.ids.next()),
            pool: pool.to_owned(),
            bot_id: bot.bot_id,
            instance: bot.instance,
            properties: bot.properties,
            capacity: bot.capacity,
            priority: bot.priority,
            status: bot.status,
            worker_pool: bot.worker_pool,
            node: bot.node,
            version_of_bot: bot.version,
            drain_until: None,
            drain_told: false,
            last_seen: grid_core::Timestamp::default(),
            idle_since: None,
            calls: 0,
            faults: 0,
            owner: self.core.replica,
            version: 1,
            expires_at: grid_core::Timestamp::default(),
        };
        self.registrations.call(Registration { session, lifetime: self.lifetime() }).await
    }

    /// How long a session lives without a call.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.core.options.bot_session_keepalive_timeout
    }

    /// Takes a bot's report and, where nothing in it calls for an answer at once, waits for work.
    ///
    /// # Errors
    /// [`SchedulerError::SessionNotFound`], [`SchedulerError::SessionMismatch`]; the store's.
    pub async fn report(&self, report: BotReport, poll: Poll) -> Result<Synced, SchedulerError> {
        let deadline = Instant::now() + poll.wait;
        let runs = |lease: &&ReportedLease| matches!(lease.news, News::Running(_));
        let told: Vec<(JobId, u32)> = report.leases.iter().filter(runs).map(|l| (l.job, l.attempt)).collect();
        // A bot that brings results is answered at once, with more work if there is any.
        let brings = told.len() < report.leases.len();
        let mut next = report;
        for round in 0_u32.. {
            let mut place = self.core.dispatcher.enter(next.session);
            let known = if round == 0 { self.core.dispatcher.recall(&next) } else { None };
            let synced = match known {
                Some(session) => Synced { session, held: Vec::new(), drain_is_news: false },
                None => self.synchronize(next.clone()).await?,
            };
            let session = &synced.session;
            let free = session.capacity.saturating_sub(u32::try_from(synced.held.len()).unwrap_or(u32::MAX));
            let leaving = matches!(session.status, BotStatus::HostRebooting | BotStatus::Terminating);
            let holds = free > 0 || poll.when_full;
            let news = differs(&synced.held, &told) || synced.drain_is_news;
            if news || leaving || !holds || poll.wait.is_zero() {
                return Ok(synced);
            }
            let free = if session.takes_work() { free } else { 0 };
            let offer = self.core.view().offer(session);
            let cohort = self.core.options.cohort(session).to_owned();
            let slots = Slots { session: session.clone(), offer, free, localities: Vec::new(), cohort };
            place.offer(slots, brings);
            match timeout_at(deadline, place.woken()).await {
                Err(_) | Ok(Wake::Nothing) => return Ok(synced),
                Ok(Wake::Granted(jobs, since)) => {
                    self.core.observe_delivered(&jobs, since.elapsed());
                    return Ok(granted(synced, jobs));
                }
                Ok(Wake::Resync) => next = again(next, &synced.held),
            }
        }
        Err(SchedulerError::Stopped)
    }

    async fn synchronize(&self, report: BotReport) -> Result<Synced, SchedulerError> {
        let began = Instant::now();
        let synced = self.reports.call(report).await.flatten();
        self.core.observe(|| SchedulerEvent::Synchronized { took: began.elapsed(), failed: synced.is_err() });
        synced
    }

    /// Tells the observer how long the stages took that a job went through on its bot.
    pub fn observe_stages(&self, job: &Job, stages: &[(&'static str, Duration)]) {
        let pool = self.core.view().declared_name(&job.state.worker_pool).to_owned();
        for (stage, took) in stages {
            let (pool, instance) = (pool.as_str(), job.spec.instance.as_str());
            self.core.observe(|| SchedulerEvent::Stage { pool, instance, stage, took: *took });
        }
    }

    /// Names the log streams of leases that a session holds; gives their jobs. Streams that a lease has already stay.
    ///
    /// # Errors
    /// The store's.
    pub async fn attach_streams(
        &self,
        session: SessionId,
        leases: Vec<(JobId, u32, Streams)>,
    ) -> Result<Vec<Job>, SchedulerError> {
        let attach = || engine::attach(self.core.store.as_ref(), session, leases.clone());
        let (jobs, effects) = patiently(self.deadline(), attach).await?;
        self.core.apply(effects);
        Ok(jobs)
    }

    /// The log streams of leases that end from now on, whichever replica ends them, as long as their bots call here.
    #[must_use]
    pub fn streams_over(&self) -> broadcast::Receiver<Streams> {
        self.core.streams.over()
    }

    /// The job of a lease that a session is believed to hold, for what is done with a result before it is reported.
    ///
    /// # Errors
    /// The store's.
    pub async fn leased(
        &self,
        session: SessionId,
        job: JobId,
        attempt: u32,
    ) -> Result<Option<Arc<Job>>, SchedulerError> {
        let held = |job: &Arc<Job>| job.session() == Some(session) && job.state.attempts == attempt;
        match self.core.running(job).filter(held) {
            Some(job) => Ok(Some(job)),
            None => Ok(self.jobs.call(job).await?.filter(held)),
        }
    }
}

/// Whether a bot must hear at once of what it holds.
fn differs(held: &[Job], told: &[(JobId, u32)]) -> bool {
    held.len() != told.len() || held.iter().any(|job| !told.contains(&(job.id, job.state.attempts)))
}

fn granted(mut synced: Synced, jobs: Vec<Job>) -> Synced {
    synced.session.version += 1;
    synced.held.extend(jobs);
    synced
}

/// The same call once more: what it brought has been taken, and what it holds it goes on running.
fn again(report: BotReport, held: &[Job]) -> BotReport {
    let running = |job: &Job| ReportedLease {
        job: job.id,
        attempt: job.state.attempts,
        news: News::Running(None),
        usage: Usage::default(),
    };
    BotReport { leases: held.iter().map(running).collect(), ..report }
}
