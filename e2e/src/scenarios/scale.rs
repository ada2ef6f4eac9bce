//! One operator of a thousand resources on the real API server, and how quickly it does what is asked.
//!
//! `GRID_REST_MINUTES` says how long nothing is asked of it, ten where it is not given.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use grid_proto::reapi::ExecuteRequest;
use grid_proto::reapi::execution_client::ExecutionClient;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::{Client, ResourceExt};
use regex::Regex;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::on_cluster::TestGrid;
use crate::gridcluster::Cluster;
use crate::remote::Remote;
use crate::{actions, api, grid, operator, pods, process, wait};

/// Namespaces, and in each of them so many grids with a tier and a pool: 1,020 resources.
const NAMESPACES: usize = 34;
const GRIDS: usize = 10;
/// Changes of which the time is taken.
const CHANGES: usize = 200;
/// The pool that follows the demand from nothing.
const BURST: &str = "
apiVersion: grid.build/v1alpha1
kind: WorkerPool
metadata: {name: burst}
spec:
  gridRef: {name: demo}
  image: localhost/toolchain-gcc12:0.1.0
  properties: [{name: toolchain, value: burst}]
  autoscaling: {maxReplicas: 10}
";
/// Pods of that pool, and as many actions that each need one.
const PODS: usize = 10;

/// Times and memory are printed, beside what they are meant to be; writes at rest and too much memory fail.
///
/// # Errors
/// Where the operator writes at rest, has too much memory, or doesn't do what it is asked.
pub(crate) fn scale() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "scale-test", &[], "buildgrid.yaml")?;
    let run = Run::of(&cluster)?;
    let ready = minimal(&test)?;
    let requested = run.burst(&cluster, &test)?;
    test.delete()?;
    let names = namespaces(&cluster)?;
    let outcome = run.many(&cluster, &names);
    let removed = remove(&cluster, &names);
    let Many { reconciled, changes, resident, peak, writes } = outcome?;
    removed?;
    let at = |share: usize| changes.get(changes.len() * share / 100).copied().unwrap_or_default();
    println!("    {:52} {:>10}  meant to be", "of one operator", "measured");
    let tell = |what: &str, value: String, meant: &str| println!("    {what:52} {value:>10}  {meant}");
    tell("a minimal grid, from apply to Ready", format!("{:.1} s", ready.as_secs_f64()), "15 s");
    tell("10 pods requested after 10 actions came", format!("{:.2} s", requested.as_secs_f64()), "1 s");
    let all = NAMESPACES * GRIDS * 3;
    let after = format!("{all} changed resources reconciled after a start");
    tell(&after, format!("{:.1} s", reconciled.as_secs_f64()), "60 s");
    tell("a change to the object that follows, median", format!("{} ms", at(50).as_millis()), "");
    tell("the same, 99 of 100", format!("{} ms", at(99).as_millis()), "100 ms");
    tell("resident memory", format!("{} MiB", resident / 1024), "100 MiB");
    tell("resident memory, the most ever", format!("{} MiB", peak / 1024), "");
    tell(&format!("writes in {} min at rest", rest_minutes()?), writes.to_string(), "0");
    ensure!(writes == 0, "{writes} writes at rest");
    ensure!(resident < 100 * 1024, "{resident} KiB of memory");
    Ok(())
}

/// What came of the thousand.
struct Many {
    reconciled: Duration,
    /// In ascending order.
    changes: Vec<Duration>,
    resident: u64,
    peak: u64,
    writes: u64,
}

fn rest_minutes() -> Result<u64> {
    Ok(std::env::var("GRID_REST_MINUTES").map_or(Ok(10), |text| text.parse())?)
}

/// How long a grid of five lines takes to be ready, where the images are there.
fn minimal(test: &TestGrid<'_>) -> Result<Duration> {
    let start = Instant::now();
    test.kube.apply(test.namespace, &grid::example("minimal.yaml", "localhost")?)?;
    test.kube.wait(test.namespace, "grid/grid", "condition=Ready", 120)?;
    Ok(start.elapsed())
}

fn namespaces(cluster: &Cluster) -> Result<Vec<String>> {
    let kube = crate::kube::Kube::Test(cluster);
    let names: Vec<String> = (0..NAMESPACES).map(|n| format!("scale-{n}")).collect();
    let manifest =
        names.iter().map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    kube.apply(
        "default",
        &json!({"apiVersion": "v1", "kind": "List", "items": manifest.collect::<Vec<_>>()}).to_string(),
    )?;
    Ok(names)
}

fn remove(cluster: &Cluster, names: &[String]) -> Result<()> {
    let kube = crate::kube::Kube::Test(cluster);
    for kind in ["pool", "grid", "cas"] {
        for name in names {
            process::run(&mut kube.kubectl(["delete", kind, "--all", "--namespace", name, "--wait=false"]))?;
        }
    }
    process::run(kube.kubectl(["delete", "namespace", "--wait", "--timeout=600s"]).args(names))
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("grid.build", "v1alpha1", kind), plural)
}

const KINDS: [(&str, &str); 3] =
    [("CasStorage", "casstorages"), ("BuildGrid", "buildgrids"), ("WorkerPool", "workerpools")];

/// What each of the three asks for: nothing that runs.
fn spec(kind: &str, index: usize) -> Value {
    match kind {
        "CasStorage" => json!({"serve": "disk", "hibernate": true, "volume": {"size": "10Gi"},
            "storages": [{"name": "disk", "disk": {}}]}),
        "BuildGrid" => json!({"storageRef": {"name": format!("tier-{index}")}, "hibernate": true}),
        _ => {
            json!({"gridRef": {"name": format!("grid-{index}")}, "image": "localhost/none:0", "replicas": 0})
        }
    }
}

fn name(kind: &str, index: usize) -> String {
    let stem = match kind {
        "CasStorage" => "tier",
        "BuildGrid" => "grid",
        _ => "pool",
    };
    format!("{stem}-{index}")
}

struct Run {
    runtime: Runtime,
    client: Client,
}

impl Run {
    fn of(cluster: &Cluster) -> Result<Self> {
        let runtime = Runtime::new()?;
        let client = runtime.block_on(api::client(cluster))?;
        Ok(Self { runtime, client })
    }

    fn api(&self, kind: (&str, &str), namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind.0, kind.1))
    }

    /// From ten actions to the ten pods that they need.
    fn burst(&self, cluster: &Cluster, test: &TestGrid<'_>) -> Result<Duration> {
        test.kube.apply(test.namespace, BURST)?;
        test.settled()?;
        let files = test.kube.config_map(test.namespace, "demo-clients")?;
        let authority = files.get("ca.crt").context("the files for clients have no ca.crt")?;
        let host = format!("{}.example.com", test.namespace);
        let remote = Remote::connect(&grid::ingress_address(cluster)?, &host, authority)?;
        let digests = (0..PODS)
            .map(|n| actions::store(&remote, "burst", &format!("sleep 5; echo {n}")))
            .collect::<Result<Vec<_>>>()?;
        self.runtime.block_on(async {
            let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
            let deployments: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), test.namespace, &kind);
            let mut seen = watch(&deployments, &WatchParams::default()).await?;
            let start = Instant::now();
            for digest in digests {
                let request = ExecuteRequest { action_digest: Some(digest), ..Default::default() };
                let mut client = ExecutionClient::new(remote.channel.clone());
                // The answer is told for as long as somebody listens; the action runs all the same.
                remote.runtime.spawn(async move {
                    let mut told = client.execute(request).await?.into_inner();
                    while told.message().await?.is_some() {}
                    anyhow::Ok(())
                });
            }
            await_event(&mut seen, |object| {
                object.name_any() == "burst-worker" && object.data["spec"]["replicas"] == PODS
            })
            .await?;
            Ok(start.elapsed())
        })
    }

    fn many(&self, cluster: &Cluster, names: &[String]) -> Result<Many> {
        let kube = crate::kube::Kube::Test(cluster);
        self.runtime.block_on(self.make(names))?;
        self.wait_until_reconciled(names)?;
        let scale = |replicas: u32| {
            let replicas = format!("--replicas={replicas}");
            let words = ["scale", "deployment/grid-operator", "--namespace", operator::NAMESPACE, &replicas];
            process::run(&mut kube.kubectl(words))
        };
        scale(0)?;
        let touched = kube
            .wait_gone(operator::NAMESPACE, "pods", operator::PODS, 60)
            .and_then(|()| self.runtime.block_on(self.touch(names)));
        let start = Instant::now();
        // Whatever came of it: others need the operator too.
        scale(1)?;
        touched?;
        self.wait_until_reconciled(names)?;
        let reconciled = start.elapsed();
        let pod = operator::leader(&kube)?;
        let changes = self.runtime.block_on(self.changes(names))?;
        // What changed last has come to rest by then.
        wait::pause(Duration::from_secs(10));
        let before = writes(&kube, &pod)?;
        wait::pause(Duration::from_secs(60 * rest_minutes()?));
        let writes = writes(&kube, &pod)? - before;
        let (resident, peak) = pods::memory(&kube, operator::NAMESPACE, &pod, "grid-operator")?;
        Ok(Many { reconciled, changes, resident, peak, writes })
    }

    async fn make(&self, names: &[String]) -> Result<()> {
        let all = names.iter().flat_map(|n| (0..GRIDS).flat_map(move |i| KINDS.map(|kind| (n, i, kind))));
        futures::stream::iter(all)
            .map(|(namespace, index, kind)| async move {
                let object = json!({"apiVersion": "grid.build/v1alpha1", "kind": kind.0,
                    "metadata": {"name": name(kind.0, index)}, "spec": spec(kind.0, index)});
                let object: DynamicObject = serde_json::from_value(object)?;
                self.api(kind, namespace).create(&PostParams::default(), &object).await?;
                anyhow::Ok(())
            })
            .buffer_unordered(8)
            .try_collect()
            .await
    }

    /// Changes each in a way that makes something new.
    async fn touch(&self, names: &[String]) -> Result<()> {
        let all = names.iter().flat_map(|n| (0..GRIDS).flat_map(move |i| KINDS.map(|kind| (n, i, kind))));
        futures::stream::iter(all)
            .map(|(namespace, index, kind)| self.annotate(kind, namespace, index, "start"))
            .buffer_unordered(8)
            .try_collect()
            .await
    }

    async fn annotate(&self, kind: (&str, &str), namespace: &str, index: usize, value: &str) -> Result<()> {
        let metadata = json!({"annotations": {"example.org/turn": value}});
        let patch = json!({"spec": {"podTemplate": {"metadata": metadata}}});
        let (api, name) = (self.api(kind, namespace), name(kind.0, index));
        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    fn wait_until_reconciled(&self, names: &[String]) -> Result<()> {
        let wanted = names.len() * GRIDS;
        wait::until("every resource reconciled", 600, || {
            self.runtime.block_on(async {
                for (kind, plural) in KINDS {
                    let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(kind, plural));
                    let list = api.list(&ListParams::default()).await?;
                    let done = list.iter().filter(|object| {
                        object.metadata.generation.is_some_and(|generation| {
                            object.data["status"]["observedGeneration"] == generation
                        })
                    });
                    if done.count() < wanted {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
        })
    }

    /// How long it takes from a change of a tier until its StatefulSet is changed.
    async fn changes(&self, names: &[String]) -> Result<Vec<Duration>> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "StatefulSet"));
        let sets: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let mut seen =
            watch(&sets, &WatchParams::default().labels("app.kubernetes.io/managed-by=grid-operator"))
                .await?;
        let mut taken = Vec::with_capacity(CHANGES);
        for change in 0..CHANGES {
            let namespace = &names[change % names.len()];
            let (turn, index) = (format!("turn-{change}"), change / names.len());
            let start = Instant::now();
            self.annotate(KINDS[0], namespace, index, &turn).await?;
            await_event(&mut seen, |object| {
                object.data["spec"]["template"]["metadata"]["annotations"]["example.org/turn"] == *turn
            })
            .await?;
            taken.push(start.elapsed());
        }
        taken.sort();
        Ok(taken)
    }
}

type Events = BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>;

/// What happens from now on.
async fn watch(api: &Api<DynamicObject>, params: &WatchParams) -> Result<Events> {
    let now = api.list(&ListParams::default().limit(1)).await?;
    let version = now.metadata.resource_version.unwrap_or_default();
    Ok(api.watch(&params.clone().timeout(290), &version).await?.boxed())
}

async fn await_event(events: &mut Events, is_it: impl Fn(&DynamicObject) -> bool) -> Result<()> {
    let limit = Duration::from_secs(60);
    let found = tokio::time::timeout(limit, async {
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && is_it(&object)
            {
                return Ok(());
            }
        }
        Err(anyhow!("the watch ended"))
    });
    found.await.map_err(|_| anyhow!("nothing came of a change within {} s", limit.as_secs()))?
}

/// The writes of an operator so far, but for its Lease.
fn writes(kube: &crate::kube::Kube<'_>, pod: &str) -> Result<u64> {
    let text = pods::metrics(kube, operator::NAMESPACE, pod, 8982)?;
    let line = Regex::new(r#"(?m)^grid_operator_api_requests_total\{([^}]*)\} (\d+)$"#)?;
    let label = Regex::new(r#"(\w+)="([^"]*)""#)?;
    let mut sum = 0;
    for found in line.captures_iter(&text) {
        let labels: BTreeMap<_, _> =
            label.captures_iter(&found[1]).map(|l| (l[1].to_owned(), l[2].to_owned())).collect();
        let reads = matches!(labels.get("verb").map(String::as_str), Some("get" | "list" | "watch"));
        let lease = labels.get("resource").is_some_and(|resource| resource == "leases");
        sum += if reads || lease { 0 } else { found[2].parse::<u64>()? };
    }
    ensure!(text.contains("grid_operator_api_requests_total"), "the operator counts no requests: {text}");
    Ok(sum)
}
