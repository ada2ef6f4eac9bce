//! [`Readiness`]: whether this process takes calls, and whether what it depends on answers.
//!
//! The process is ready once everything it depends on answered a first time; from then on only its own state counts, until
//! it is asked to end. A dependency that goes away later shows in a metric and in the named health status, and never here:
//! else every replica would leave its Service at once, and the calls that should wait would be refused.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use grid_telemetry::dependencies::Dependencies;
use tokio::sync::Notify;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::compose::needs::Needs;
use crate::elsewhere::Elsewhere;

/// How often a dependency that doesn't answer is asked before the first readiness.
const EAGER: Duration = Duration::from_millis(500);
/// How often all are asked from then on.
const STEADY: Duration = Duration::from_secs(10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The name in the health service that tells of dependencies.
pub(crate) const DEPENDENCIES: &str = "dependencies";

const STARTING: u8 = 0;
const READY: u8 = 1;
const ENDING: u8 = 2;

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Something that calls need, and that can be away.
pub(crate) struct Dependency {
    /// Its name in metrics and logs.
    pub(crate) name: String,
    /// Asks it.
    pub(crate) probe: Box<dyn Fn() -> Answer + Send + Sync>,
}

impl Debug for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dependency").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The state of the process, shared by whoever shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    state: Arc<AtomicU8>,
    changed: Arc<Notify>,
}

impl Readiness {
    /// Whether the process takes calls.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Ordering::SeqCst) == READY
    }

    /// What to say to those who ask.
    pub(crate) fn describe(&self) -> &'static str {
        match self.state.load(Ordering::SeqCst) {
            READY => "ready",
            ENDING => "ending",
            _ => "waiting for what this server depends on",
        }
    }

    fn started(&self) {
        let _ = self.state.compare_exchange(STARTING, READY, Ordering::SeqCst, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Ready no more.
    pub(crate) fn end(&self) {
        self.state.store(ENDING, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

/// What the health service tells of each service by its name.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    needs: Needs,
}

impl Health {
    /// The services with what they need; none serves until that has answered.
    pub(crate) async fn new(reporter: HealthReporter, mut needs: Needs, elsewhere: &[Elsewhere]) -> Self {
        // Of what a way in leads past this server, the others' health counts.
        needs.retain(|own, _| !elsewhere.iter().any(|other| other.services.iter().any(|name| name == own)));
        let others = elsewhere.iter().flat_map(|other| &other.services).map(String::as_str);
        for service in needs.keys().copied().chain(others).chain([DEPENDENCIES]) {
            reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
        Self { reporter, needs }
    }

    /// Tells which services are there while these dependencies are away.
    async fn tell(&self, away: &[&str]) {
        let status = |serves| if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(DEPENDENCIES, status(away.is_empty())).await;
        for (service, wanted) in &self.needs {
            let serves = !away.iter().any(|name| wanted.contains(*name));
            self.reporter.set_service_status(service, status(serves)).await;
        }
    }

    /// Tells that the process ends.
    pub(crate) async fn end(&self) {
        for service in self.needs.keys().copied().chain(["", DEPENDENCIES]) {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
    }
}

/// Asks the dependencies for ever, and keeps readiness, metrics and the health service told.
pub(crate) async fn watch(
    dependencies: Vec<Dependency>,
    readiness: Readiness,
    metrics: Dependencies,
    health: Health,
) {
    let mut answered = vec![false; dependencies.len()];
    loop {
        let answers = futures::future::join_all(dependencies.iter().map(ask)).await;
        for ((dependency, before), answer) in dependencies.iter().zip(&mut answered).zip(&answers) {
            metrics.set(&dependency.name, answer.is_ok());
            report(&dependency.name, *before, answer.as_ref().err());
            *before = answer.is_ok();
        }
        let all = answers.iter().all(Result::is_ok);
        let away = dependencies.iter().zip(&answers).filter(|(_, answer)| answer.is_err());
        health.tell(&away.map(|(dependency, _)| dependency.name.as_str()).collect::<Vec<_>>()).await;
        if all && !readiness.is_ready() {
            readiness.started();
            tracing::info!("{}", readiness.describe());
        }
        tokio::time::sleep(if readiness.is_ready() { STEADY } else { EAGER }).await;
    }
}

async fn ask(dependency: &Dependency) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, (dependency.probe)()).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn report(name: &str, before: bool, error: Option<&String>) {
    match (before, error) {
        (true, Some(error)) => {
            tracing::warn!(dependency = name, error, "a dependency went away; calls wait for it");
        }
        (false, Some(error)) => tracing::debug!(dependency = name, error, "a dependency does not answer"),
        (false, None) => tracing::info!(dependency = name, "a dependency answers"),
        (true, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use grid_telemetry::Metrics;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;

    fn switchable(name: &str, up: &Arc<AtomicBool>) -> Dependency {
        let up = Arc::clone(up);
        let probe = move || -> Answer {
            let up = up.load(Ordering::SeqCst);
            Box::pin(async move { if up { Ok(()) } else { Err("down".to_owned()) } })
        };
        Dependency { name: name.to_owned(), probe: Box::new(probe) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_was_reached_once_never_takes_readiness_away() {
        let (first, second) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let readiness = Readiness::default();
        let metrics = Metrics::default();
        let (reporter, server) = tonic_health::server::health_reporter();
        let needs = [("First", "a"), ("Second", "b"), ("Third", "elsewhere")];
        let needs = needs.map(|(service, wanted)| (service, [wanted.to_owned()].into()));
        let health = Health::new(reporter, needs.into(), &[]).await;
        let serving = async || {
            let mut found = Vec::new();
            for service in ["First", "Second", "Third", DEPENDENCIES] {
                let request = HealthCheckRequest { service: service.to_owned() };
                let answer = HealthClient::new(server.clone()).check(request).await.unwrap();
                found.push(
                    answer.into_inner().status()
                        == tonic_health::pb::health_check_response::ServingStatus::Serving,
                );
            }
            found
        };
        assert_eq!(serving().await[..3], [false; 3]);
        let dependencies = vec![switchable("a", &first), switchable("b", &second)];
        let gauges = Dependencies::new(&metrics);
        let watching = tokio::spawn(watch(dependencies, readiness.clone(), gauges, health));

        tokio::time::sleep(EAGER * 3).await;
        assert!(!readiness.is_ready(), "one of two was never reached");
        assert_eq!(serving().await, [true, false, true, false]);
        second.store(true, Ordering::SeqCst);
        tokio::time::sleep(EAGER * 2).await;
        assert!(readiness.is_ready());
        first.store(false, Ordering::SeqCst);
        tokio::time::sleep(STEADY * 2).await;
        assert!(readiness.is_ready(), "only the process's own state counts now");
        assert_eq!(serving().await, [false, true, true, false]);
        assert!(metrics.encode().contains("grid_dependency_up{dependency=\"a\"} 0"));
        readiness.end();
        tokio::time::sleep(STEADY * 2).await;
        assert!(!readiness.is_ready(), "what ends doesn't come back");
        watching.abort();
    }
}
