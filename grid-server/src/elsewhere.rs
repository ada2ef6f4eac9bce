//! [`Elsewhere`]: the health of other servers' services, told here under their names.
//!
//! A way in leads calls to many servers and the questions after their health to one of them. What this server tells of its
//! own services is in [`crate::readiness`]; nothing here makes it ready or not.

use std::time::Duration;

use futures::future::join_all;
use grid_cas::client::AuthorizedChannel;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answer;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

/// How often a server is asked.
const STEADY: Duration = Duration::from_secs(10);
/// How often it is asked while something of it does not serve.
const EAGER: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another server.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// The way to it.
    pub(crate) channel: AuthorizedChannel,
    /// Which of its services are told of.
    pub(crate) services: Vec<String>,
}

/// Asks for ever, and tells what is answered. Until then [`crate::readiness::Health`] tells that nothing serves.
pub(crate) async fn follow(servers: Vec<Elsewhere>, reporter: HealthReporter) {
    join_all(servers.into_iter().map(|server| server.follow(&reporter))).await;
}

impl Elsewhere {
    async fn follow(self, reporter: &HealthReporter) {
        loop {
            let answers = join_all(self.services.iter().map(|service| self.ask(service))).await;
            for (service, serves) in self.services.iter().zip(&answers) {
                let status = if *serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                reporter.set_service_status(service, status).await;
            }
            let all = answers.into_iter().all(|serves| serves);
            tokio::time::sleep(if all { STEADY } else { EAGER }).await;
        }
    }

    async fn ask(&self, service: &str) -> bool {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut client = HealthClient::new(self.channel.clone());
        match tokio::time::timeout(PATIENCE, client.check(request)).await {
            Ok(Ok(answer)) => answer.get_ref().status() == Answer::Serving,
            Ok(Err(status)) => {
                tracing::debug!(service, %status, "another server does not tell its health");
                false
            }
            Err(_) => false,
        }
    }
}
