//! Why actions wait: asked of a grid's Fleet service while they do, for everything that waits longer than a pick-up takes, and in
//! the end of its record, for everything that waited long.
//!
//! Fleet is on no ingress: it is reached through the API server, at whichever pod is there. While none answers nothing is asked; what
//! waits on is asked about afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use grid_proto::fleet::fleet_client::FleetClient;
use grid_proto::fleet::{Explanation, Job, ListJobsRequest, WaitReason, WhyRequest};
use grid_proto::reapi::execution_stage;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::api;
use crate::gridcluster::Cluster;

/// What waits no longer than this is on its way to a worker.
const LEAST: Duration = Duration::from_secs(2);
/// What waited so long has its reason in Fleet's record, which holds what is looked at every few seconds, and outages of more
/// than 20 s.
const LONG: Duration = Duration::from_secs(30);
/// How often Fleet's record is asked for before it is given up.
const TRIES: usize = 5;
/// How often Fleet is asked.
const EVERY: Duration = Duration::from_secs(1);
/// Port of the servers that serve Fleet.
const PORT: u16 = 50_051;

/// What Fleet said of the actions that waited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    answers: usize,
    /// By reason: each action, and how long it had waited when that was last said of it.
    explained: BTreeMap<&'static str, BTreeMap<String, Duration>>,
    unexplained: Vec<String>,
    /// What Fleet's record says of actions that are over.
    past: Past,
}

/// Why actions that are over waited for their first worker, where that took [`LONG`].
#[derive(Clone, Debug, Default)]
struct Past {
    actions: usize,
    /// By reason: how many of them it held up.
    reasons: BTreeMap<&'static str, usize>,
    /// Those of which the record tells nothing.
    unknown: Vec<String>,
}

impl Past {
    fn add(&mut self, job: &Job, told: &Explanation) {
        let first = told.attempts.iter().min_by_key(|attempt| attempt.number).and_then(|a| a.assigned_at);
        let (Some(queued), Some(first)) = (job.queued_at, first) else { return };
        if first.seconds - queued.seconds < LONG.as_secs().cast_signed() {
            return;
        }
        self.actions += 1;
        let reasons: BTreeSet<_> = told.waits.iter().map(|wait| wait.reason().as_str_name()).collect();
        if reasons.is_empty() {
            self.unknown.push(job.name.clone());
        }
        reasons.into_iter().for_each(|reason| *self.reasons.entry(reason).or_default() += 1);
    }
}

impl Record {
    fn add(&mut self, jobs: &[Job]) {
        self.answers += 1;
        for job in jobs {
            match job.wait_reason() {
                WaitReason::Unspecified => self.unexplained.push(job.name.clone()),
                // It was assigned between the two looks that one answer is made of.
                WaitReason::NotWaiting => {}
                reason => {
                    let waited = waited(job).unwrap_or_default();
                    self.explained.entry(reason.as_str_name()).or_default().insert(job.name.clone(), waited);
                }
            }
        }
    }

    /// Prints how many actions waited why, and how long.
    ///
    /// # Errors
    /// Where an action waited without a reason, or Fleet never answered.
    pub(crate) fn tell(&self) -> Result<()> {
        println!(
            "    Fleet was asked {} times of what waited longer than {} s",
            self.answers,
            LEAST.as_secs()
        );
        for (reason, jobs) in &self.explained {
            let longest = jobs.values().max().copied().unwrap_or_default();
            println!("    {reason}: {} actions, the longest {} s", jobs.len(), longest.as_secs());
        }
        let Past { actions, reasons, unknown } = &self.past;
        println!(
            "    {actions} actions waited {} s and more; in Fleet's record: {reasons:?}",
            LONG.as_secs()
        );
        ensure!(self.answers > 0, "Fleet never answered");
        ensure!(unknown.is_empty(), "Fleet's record doesn't say why these waited: {unknown:?}");
        ensure!(self.unexplained.is_empty(), "waited without a reason: {:?}", self.unexplained);
        Ok(())
    }
}

fn waited(job: &Job) -> Option<Duration> {
    let queued = job.queued_at?;
    let since = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(queued.seconds).ok()?);
    since.elapsed().ok()
}

/// Does something, and meanwhile asks the Fleet service of a grid why its actions wait.
///
/// # Errors
/// Where that fails, or there is no cluster.
pub(crate) fn recorded<T>(
    cluster: &Cluster,
    namespace: &str,
    grid: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Record)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = runtime.block_on(api::client(cluster))?;
    let way = Arc::new(Way { client, namespace: namespace.to_owned(), grid: grid.to_owned() });
    let (stop, stopped) = watch::channel(false);
    let asking = runtime.spawn(ask(way, stopped));
    let done = work();
    // It may have ended by an error, which is told below.
    let _ = stop.send(true);
    let record = runtime.block_on(asking).map_err(|_| anyhow!("the task that asks Fleet panicked"))?;
    Ok((done?, record?))
}

/// How a grid's Fleet service is reached.
struct Way {
    client: Client,
    namespace: String,
    grid: String,
}

impl Way {
    /// The servers that are ready and serve Fleet.
    async fn pod(&self) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!(
            "app.kubernetes.io/instance={},grid.build/kind=BuildGrid,app.kubernetes.io/component in (server,execution)",
            self.grid
        );
        let is_ready = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            pod.metadata.deletion_timestamp.is_none()
                && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        list.items.iter().find(|pod| is_ready(pod)).map(ResourceExt::name_any).context("no server is ready")
    }

    /// The admin token as it is now: tokens are replaced.
    async fn token(&self) -> Result<AsciiMetadataValue> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets.get(&format!("{}-credentials", self.grid)).await?;
        let token = secret.data.and_then(|mut data| data.remove("admin-token")).context("no admin-token")?;
        let text = String::from_utf8(token.0)?;
        let first = text.lines().next().unwrap_or_default();
        Ok(format!("Bearer {first}").parse()?)
    }

    /// Leads one connection to a server.
    async fn carry(&self, mut connection: TcpStream) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut forwarder = pods.portforward(&self.pod().await?, &[PORT]).await?;
        let mut stream = forwarder.take_stream(PORT).context("the port is not forwarded")?;
        tokio::io::copy_bidirectional(&mut connection, &mut stream).await?;
        Ok(())
    }

    async fn jobs(&self, fleet: &Channel) -> Result<Vec<Job>> {
        let request = ListJobsRequest {
            stages: vec![execution_stage::Value::Queued.into()],
            min_queue_age: Some(prost_types::Duration { seconds: LEAST.as_secs().cast_signed(), nanos: 0 }),
            ..ListJobsRequest::default()
        };
        Ok(FleetClient::new(fleet.clone())
            .list_jobs(self.authorized(request).await?)
            .await?
            .into_inner()
            .jobs)
    }

    /// What the record says of every action that is over.
    async fn past(&self, fleet: &Channel) -> Result<Past> {
        let mut client = FleetClient::new(fleet.clone());
        let mut past = Past::default();
        let stages = vec![execution_stage::Value::Completed.into()];
        let mut list = ListJobsRequest { stages, ..ListJobsRequest::default() };
        loop {
            let page = client.list_jobs(self.authorized(list.clone()).await?).await?.into_inner();
            let long = |job: &&Job| match (job.queued_at, job.assigned_at) {
                (Some(queued), Some(at)) => at.seconds - queued.seconds >= LONG.as_secs().cast_signed(),
                _ => false,
            };
            for job in page.jobs.iter().filter(long) {
                let why = WhyRequest { operation: job.name.clone() };
                past.add(job, &client.why(self.authorized(why).await?).await?.into_inner());
            }
            if page.next_page_token.is_empty() {
                return Ok(past);
            }
            list.page_token = page.next_page_token;
        }
    }

    async fn authorized<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token().await?);
        request.set_timeout(Duration::from_secs(10));
        Ok(request)
    }
}

/// Asks again and again until it is to stop.
async fn ask(way: Arc<Way>, mut stopped: watch::Receiver<bool>) -> Result<Record> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let fleet = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?.connect_lazy();
    let carrier = Arc::clone(&way);
    let door = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let way = Arc::clone(&carrier);
            // A connection ends with the pod that it leads to; the next one leads to another.
            tokio::spawn(async move { drop(way.carry(connection).await) });
        }
    });
    let mut record = Record::default();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => break,
        }
        // Servers come and go meanwhile: who doesn't answer is asked again.
        if let Ok(Ok(jobs)) = tokio::time::timeout(Duration::from_secs(15), way.jobs(&fleet)).await {
            record.add(&jobs);
        }
    }
    let mut told = way.past(&fleet).await;
    for _ in 1..TRIES {
        if told.is_ok() {
            break;
        }
        tokio::time::sleep(EVERY).await;
        told = way.past(&fleet).await;
    }
    door.abort();
    record.past = told.context("Fleet's record of the actions that are over")?;
    Ok(record)
}
