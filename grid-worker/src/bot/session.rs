//! The conversation with the server: reports, long polls, starting and ending leases, leaving.
//!
//! Work doesn't depend on the connection: while the server is away it goes on, and results wait. A report
//! goes out at once when something happened here; a call that only waits is given up for it, which RWAPI's
//! version handshake makes harmless. Neighbours: `call` makes the calls, `ledger` keeps the leases, `execute`
//! does the work.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_core::Clock;
use grid_proto::reapi::ExecuteOperationMetadata;
use grid_proto::rwapi::{BotSession, Lease};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::Fate;
use super::call::{self, Answer, Failure};
use super::drain::{self, Drain};
use super::identity::Identity;
use super::ledger::{Instruction, Ledger};
use crate::connect::Remote;
use crate::execute::assignment::Assignment;
use crate::execute::timeline::Timeline;
use crate::execute::{Executor, Outcome};
use crate::metrics::Metrics;
use crate::retry::Backoff;

/// How long a call that brings results may take before it is given up for another one.
const RESULT_PATIENCE: Duration = Duration::from_secs(2);
/// How long opening a session may take at first; it grows with each attempt. A server that holds the call until
/// there is work doesn't do so below three seconds, and an open call can't be given up for SIGTERM.
const OPENING: Duration = Duration::from_millis(2_500);
/// The least time between two reports without news, for servers that answer at once.
const QUIET_PAUSE: Duration = Duration::from_secs(1);
/// How many calls in a row may be aborted before the session counts as lost, and its work with it.
const MOST_ABORTED: usize = 5;
/// How long a worker that gave everything back goes on telling a server that is not there: with a pause between two tries and
/// the last word less than the half minute that a pod has after its grace.
const RETURN: Duration = Duration::from_secs(15);
/// How long the last word of a leaving worker may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A bot with everything it needs.
#[derive(Debug)]
pub struct Bot {
    identity: Identity,
    remote: Remote,
    executor: Arc<Executor>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    fate: watch::Receiver<Fate>,
    drain: watch::Sender<Option<Drain>>,
    ledger: Ledger,
    session: BotSession,
    opening: Duration,
    /// When it goes, whatever the server has taken.
    goes: Option<Instant>,
    tasks: HashMap<String, Running>,
    /// Whose progress is told first next time.
    turn: usize,
    sender: mpsc::UnboundedSender<(String, Outcome)>,
    done: mpsc::UnboundedReceiver<(String, Outcome)>,
}

/// A lease that is worked on.
#[derive(Debug)]
struct Running {
    task: AbortHandle,
    /// How far it got.
    timeline: Arc<Mutex<Timeline>>,
}

/// What ended the wait for an answer.
enum Event {
    Answered(Box<Answer>),
    Failed(tonic::Status),
    Done(Box<(String, Outcome)>),
    FateChanged,
    Late,
}

impl From<Result<Answer, tonic::Status>> for Event {
    fn from(result: Result<Answer, tonic::Status>) -> Self {
        result.map_or_else(Self::Failed, |answer| Self::Answered(Box::new(answer)))
    }
}

impl Bot {
    /// A bot that hasn't spoken yet.
    #[must_use]
    pub fn new(
        identity: Identity,
        remote: Remote,
        executor: Arc<Executor>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        fate: watch::Receiver<Fate>,
        drain: watch::Sender<Option<Drain>>,
    ) -> Self {
        let (sender, done) = mpsc::unbounded_channel();
        let session = BotSession::default();
        let (ledger, tasks) = (Ledger::default(), HashMap::new());
        Self {
            identity,
            remote,
            executor,
            clock,
            metrics,
            fate,
            drain,
            ledger,
            session,
            opening: OPENING,
            goes: None,
            tasks,
            turn: 0,
            sender,
            done,
        }
    }

    /// Works until the worker leaves and every result is taken, or nobody was there to take them.
    pub async fn run(mut self) {
        let (mut backoff, mut aborted) = (Backoff::default(), 0);
        while !self.is_finished() {
            let before = Instant::now();
            let sent = self.report();
            match self.converse(sent.clone()).await {
                Event::Done(done) => self.note(&done.0, &done.1),
                Event::FateChanged => self.fate_changed(),
                Event::Late => {}
                Event::Answered(answer) => {
                    if !sent.name.is_empty() {
                        (backoff, aborted) = (Backoff::default(), 0);
                    }
                    self.metrics.connected.set(1);
                    if !self.take(&sent, *answer) {
                        self.rest(QUIET_PAUSE.saturating_sub(before.elapsed())).await;
                    }
                }
                Event::Failed(status) => match call::meaning(&status) {
                    Failure::Quiet if before.elapsed() >= QUIET_PAUSE => {}
                    Failure::Aborted if aborted < MOST_ABORTED => {
                        aborted += 1;
                        self.rest(backoff.pause()).await;
                    }
                    Failure::Aborted | Failure::SessionLost if !self.session.name.is_empty() => {
                        self.lose_session(&status);
                        aborted = 0;
                        self.rest(backoff.pause()).await;
                    }
                    Failure::Quiet | Failure::Away | Failure::Aborted | Failure::SessionLost => {
                        self.metrics.connected.set(0);
                        let pause = backoff.pause();
                        tracing::warn!(%status, ?pause, "the server can't be talked to; work goes on");
                        self.rest(pause).await;
                    }
                },
            }
        }
        if !self.ledger.is_empty() {
            let leases = self.ledger.len();
            tracing::warn!(
                leases,
                "leaving without the server's answer: it gives these leases to others later"
            );
        }
        self.say_farewell().await;
    }

    /// Whether the worker may end. A session that was never opened holds nothing.
    fn is_finished(&self) -> bool {
        let late = self.goes.is_some_and(|goes| Instant::now() >= goes);
        self.fate.borrow().is_final() && (late || self.ledger.is_empty())
    }

    /// The session as it is to be reported now.
    fn report(&self) -> BotSession {
        BotSession {
            name: self.session.name.clone(),
            bot_id: self.identity.bot_id.clone(),
            status: self.fate.borrow().status().into(),
            worker: Some(self.identity.worker()),
            leases: self.ledger.report(),
            expire_time: None,
            version: self.session.version.clone(),
        }
    }

    /// How far the running leases got, as many of them as one call may tell of.
    fn progress(&mut self) -> call::Progress {
        let metadata = |running: &Running| running.timeline.lock().metadata(&self.identity.bot_id);
        let running = self.tasks.iter().map(|(id, running)| (id, metadata(running)));
        call::portion(running, &mut self.turn)
    }

    /// Makes the call, and gives it up for news of our own unless it carries results.
    async fn converse(&mut self, report: BotSession) -> Event {
        let carries_results = self.ledger.has_results();
        let (remote, poll, instance) =
            (self.remote.clone(), self.identity.poll, self.identity.instance.clone());
        let (opening, progress) = (self.opening, self.progress());
        let call = async move {
            if report.name.is_empty() {
                call::create(&remote, &instance, report, opening).await
            } else {
                call::update(&remote, report, progress, poll).await
            }
        };
        let mut call = std::pin::pin!(call);
        let goes = self.goes;
        let late = async {
            match goes {
                Some(goes) => tokio::time::sleep_until(goes.into()).await,
                None => std::future::pending().await,
            }
        };
        // Opening a session isn't given up: the server could have opened it.
        let uninterrupted = if self.session.name.is_empty() {
            self.opening = (opening * 2).min(poll);
            opening
        } else if carries_results {
            RESULT_PATIENCE
        } else {
            Duration::ZERO
        };
        if let Ok(answer) = tokio::time::timeout(uninterrupted, &mut call).await {
            return answer.into();
        }
        tokio::select! {
            biased;
            Some(done) = self.done.recv() => Event::Done(Box::new(done)),
            Ok(()) = self.fate.changed() => Event::FateChanged,
            () = late => Event::Late,
            answer = call => answer.into(),
        }
    }

    /// Waits, unless something happens here.
    async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            biased;
            Some((id, outcome)) = self.done.recv() => self.note(&id, &outcome),
            Ok(()) = self.fate.changed() => self.fate_changed(),
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Notes a result, and those that came with it.
    fn note(&mut self, id: &str, outcome: &Outcome) {
        self.finish(id, outcome);
        while let Ok((id, outcome)) = self.done.try_recv() {
            self.finish(&id, &outcome);
        }
    }

    fn finish(&mut self, id: &str, outcome: &Outcome) {
        if self.tasks.remove(id).is_some() {
            self.metrics.running.dec();
            self.metrics.finished(outcome);
            self.ledger.complete(id, outcome);
        }
    }

    fn fate_changed(&mut self) {
        let fate = self.fate.borrow_and_update().clone();
        tracing::info!(?fate, "the worker's state changed");
        if fate == Fate::GivingBack {
            self.goes = Some(Instant::now() + RETURN);
            let running: Vec<String> = self.ledger.running().cloned().collect();
            for id in running {
                self.end(&id);
                self.ledger.complete(&id, &Outcome::given_back());
            }
        }
    }

    /// Takes in an answer; whether there was anything new in it.
    fn take(&mut self, sent: &BotSession, answer: Answer) -> bool {
        let Answer { session, metadata, drain: left } = answer;
        let news = session.version != sent.version || session.name != sent.name;
        let instructions = self.ledger.reconcile(&sent.leases, session.leases);
        self.opening = OPENING;
        (self.session.name, self.session.version) = (session.name, session.version);
        drain::note(&self.drain, &self.metrics, left, self.ledger.len());
        let news = news || !instructions.is_empty();
        for instruction in instructions {
            match instruction {
                Instruction::Start(lease) => self.start(*lease, metadata.clone()),
                Instruction::Cancel(id) => {
                    tracing::info!(lease = id, "cancelled");
                    self.end(&id);
                }
            }
        }
        news
    }

    fn start(&mut self, lease: Lease, metadata: Vec<ExecuteOperationMetadata>) {
        let id = lease.id.clone();
        let drained = self.drain.borrow().is_some_and(|drain| drain.is_over());
        if drained || *self.fate.borrow() == Fate::GivingBack {
            self.ledger.complete(&id, &Outcome::given_back());
            return;
        }
        // The same lease anew: what still runs of the old one has no reader.
        self.end(&id);
        let (executor, sender) = (self.executor.clone(), self.sender.clone());
        let timeline = Arc::new(Mutex::new(Timeline::new(self.clock.clone())));
        let reached = timeline.clone();
        let task = tokio::spawn(async move {
            let outcome = execute(&executor, &lease, &metadata, &reached).await;
            // The receiver only goes away with the whole worker.
            let _ = sender.send((lease.id, outcome));
        });
        self.tasks.insert(id, Running { task: task.abort_handle(), timeline });
        self.metrics.running.inc();
    }

    /// Ends a lease's work; dropping it kills the command.
    fn end(&mut self, id: &str) {
        if let Some(running) = self.tasks.remove(id) {
            running.task.abort();
            self.metrics.running.dec();
        }
    }

    fn lose_session(&mut self, status: &tonic::Status) {
        tracing::warn!(%status, "the session is lost; its leases are somebody else's now");
        for id in self.ledger.abandon() {
            self.end(&id);
        }
        self.session = BotSession::default();
    }

    /// Tells the server that nobody is here any more; it would find out by itself, later.
    async fn say_farewell(&self) {
        if !self.session.name.is_empty() {
            let last = call::update(&self.remote, self.report(), Vec::new(), FAREWELL);
            if let Ok(Err(status)) = tokio::time::timeout(FAREWELL, last).await {
                tracing::debug!(%status, "the last word did not arrive");
            }
        }
    }
}

async fn execute(
    executor: &Executor,
    lease: &Lease,
    metadata: &[ExecuteOperationMetadata],
    timeline: &Mutex<Timeline>,
) -> Outcome {
    let payload = lease.payload.clone().unwrap_or_default();
    match Assignment::read(&payload, metadata, &executor.cas).await {
        Ok(assignment) => {
            tracing::info!(lease = lease.id, action = %assignment.action_digest, "executing");
            executor.execute(&assignment, timeline).await
        }
        Err(error) => {
            tracing::warn!(lease = lease.id, %error, "a lease can't be read");
            Outcome::failed(&error)
        }
    }
}
