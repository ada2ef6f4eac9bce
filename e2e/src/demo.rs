//! The demo: a grid on a cluster, a real build on it, and what to try next.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::bazel::{Summary, Workspace};
use crate::gridcluster::Cluster;
use crate::kube::Kube;
use crate::{environment, grid};

const NAMESPACE: &str = "grid-demo";
const HOST: &str = "grid.example.com";

/// Options of `grid-e2e demo`.
#[derive(Args)]
pub(crate) struct Options {
    /// An image archive to load onto the test cluster's nodes.
    #[arg(long = "image")]
    images: Vec<PathBuf>,
    /// Use the cluster of this kubeconfig context, whose ingress must answer for the host grid.example.com.
    #[arg(long, requires = "registry")]
    context: Option<String>,
    /// The registry that this cluster pulls from.
    #[arg(long)]
    registry: Option<String>,
    /// Stop the cluster at the end.
    #[arg(long)]
    tear_down: bool,
}

/// Runs the demo.
///
/// # Errors
/// Where a step fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = step("prepare the cluster's programs", Cluster::prepare)?;
    let registry = options.registry.as_deref().unwrap_or("localhost");
    let kube = match &options.context {
        Some(context) => Kube::Context(context.clone()),
        None => {
            step("start Kubernetes", || Cluster::up(1))?;
            step("load the images", || cluster.load(&options.images))?;
            Kube::Test(&cluster)
        }
    };
    step("helm install grid-operator", || grid::install(&kube, registry))?;
    step("kubectl apply -f examples/buildgrid.yaml", || {
        kube.namespace(NAMESPACE, "restricted")?;
        kube.apply(NAMESPACE, &grid::example("buildgrid.yaml", registry)?)?;
        ["grid/demo", "pool/gcc12", "pool/gcc14"]
            .iter()
            .try_for_each(|object| kube.wait(NAMESPACE, object, "condition=Ready", 300))
    })?;
    let dir = environment::cache()?.join("demo");
    let mut workspace = step("lay out a C and C++ project", || Workspace::new(&dir))?;
    let files = grid::client_files(&kube, NAMESPACE, "demo", &dir)?;
    let address = match &kube {
        Kube::Test(cluster) => grid::ingress_address(cluster)?,
        Kube::Context(_) => grid::published_address(&kube, NAMESPACE, "demo")?,
    };
    let clients = grid::clients(workspace.clients(&cluster)?, &files, HOST, &address)?;
    workspace.clean()?;
    let build = |workspace: &Workspace| workspace.build(&clients, &[grid::bazelrc()], &[]);
    let first = step("bazel build, on the grid", || build(&workspace))?;
    workspace.clean()?;
    let second = step("bazel build once more, from nothing", || build(&workspace))?;
    step("run what was built", || workspace.run_outputs(&clients))?;
    summary(&kube, &first, &second, options)?;
    if options.tear_down {
        step("stop the cluster", || cluster.down())?;
    }
    Ok(())
}

fn summary(kube: &Kube<'_>, first: &Summary, second: &Summary, options: &Options) -> Result<()> {
    let address = kube.config_map(NAMESPACE, "demo-clients")?;
    let address = address.get("address").context("the ConfigMap demo-clients has no address")?;
    println!();
    println!(
        "  actions run on the grid       {} in {:.0} s",
        first.count("remote"),
        first.took.as_secs_f64()
    );
    println!(
        "  cache hits of a second build  {} in {:.0} s",
        second.count("remote cache hit"),
        second.took.as_secs_f64()
    );
    println!("  the grid's address            {address}");
    println!(
        "  files for Bazel, recc, bst    kubectl get configmap --namespace {NAMESPACE} demo-clients -o yaml"
    );
    if options.context.is_none() && !options.tear_down {
        println!("  to look at the grid           e2e/cluster/gridcluster kubectl get -A grid,pool");
        println!("  to stop everything            e2e/cluster/gridcluster down");
    }
    Ok(())
}

fn step<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("--> {name}");
    let start = Instant::now();
    let result = body().with_context(|| format!("step failed: {name}"))?;
    println!("--> {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}
