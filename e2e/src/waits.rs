//! Why actions wait: asked of a grid's Fleet service while they do, for everything that waits longer than a pick-up takes.
//!
//! Fleet is on no ingress: it is reached through the API server, at whichever pod is there. While none answers nothing is asked; what
//! waits on is asked about afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use grid_proto::fleet::fleet_client::FleetClient;
use grid_proto::fleet::{Job, ListJobsRequest, WaitReason};
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
        ensure!(self.answers > 0, "Fleet never answered");
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
        let mut request = Request::new(ListJobsRequest {
            stages: vec![execution_stage::Value::Queued.into()],
            min_queue_age: Some(prost_types::Duration { seconds: LEAST.as_secs().cast_signed(), nanos: 0 }),
            ..ListJobsRequest::default()
        });
        request.metadata_mut().insert("authorization", self.token().await?);
        request.set_timeout(Duration::from_secs(10));
        Ok(FleetClient::new(fleet.clone()).list_jobs(request).await?.into_inner().jobs)
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
    door.abort();
    Ok(record)
}
