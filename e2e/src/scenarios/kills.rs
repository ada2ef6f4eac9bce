//! Builds go on while every pod in turn is killed.

use anyhow::{Context, Result, anyhow};

use super::builds::{self, Course};
use super::on_cluster::TestGrid;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, pods, reference};

/// Each replica of each server, the CAS tier behind them, a worker, its runner, and the operator are killed (signal 9)
/// one after the other during builds that take nothing from the cache; every build succeeds with Bazel's own retries,
/// nothing runs locally, and the outputs are a local build's.
///
/// # Errors
/// Where a build fails, or a pod does not come back.
pub(crate) fn postgres() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "kills-test", &["postgres.yaml"], "postgres.yaml")?;
    let (mut workspace, clients) = test.bazel("demo")?;
    builds::meanwhile(&mut workspace, &clients, &[], |course| kill_all(&test, course))?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    test.delete()
}

/// How often the only server is killed in a build: from the third time on, Kubernetes lets a container wait for longer
/// than clients do.
const KILLS: usize = 2;
/// The actions that have come to their end on a server since it was started.
const EXECUTED: pods::Count = pods::Count {
    port: 8980,
    series: "grid_rpc_handled_total",
    labels: r#"grpc_method="Execute",grpc_code="OK""#,
};
/// What Bazel is told for a grid whose only server may restart: `docs/availability.md` says so to users.
const PATIENT: [&str; 2] = ["--remote_retries=15", "--remote_retry_max_delay=10s"];

/// The one-pod grid on SQLite: its server is killed again and again in a build, which succeeds with the flags that
/// the documentation names, and loses no action.
///
/// # Errors
/// Where the build fails, or the pod does not come back.
pub(crate) fn one_pod() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "one-pod-test", &[], "buildgrid.yaml")?;
    let (workspace, clients) = test.bazel("demo")?;
    let servers = pods::names(&test.kube, test.namespace, "app.kubernetes.io/instance=demo")?;
    let flags = PATIENT.map(str::to_owned);
    std::thread::scope(|scope| -> Result<()> {
        let builder = scope.spawn(|| workspace.build(&clients, &[grid::bazelrc()], &flags));
        for pod in servers.iter().cycle().take(KILLS) {
            // The server that was started anew counts from nothing.
            EXECUTED.wait(&test.kube, test.namespace, std::slice::from_ref(pod), 20)?;
            let start = std::time::Instant::now();
            pods::kill(&test.kube, test.namespace, pod, "grid-server")?;
            println!("    killed the server: ready again after {:.1} s", start.elapsed().as_secs_f64());
        }
        anyhow::ensure!(!builder.is_finished(), "the build ended before the kills did");
        let summary = builder.join().map_err(|_| anyhow!("the thread that builds panicked"))??;
        println!("    build: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
        summary.expect_remote(COMPILE_ACTIONS)
    })?;
    test.delete()
}

fn kill_all(test: &TestGrid<'_>, course: &Course) -> Result<()> {
    let ours = "app.kubernetes.io/managed-by=grid-operator";
    let mut victims = Vec::new();
    for pod in pods::names(&test.kube, test.namespace, ours)? {
        let object = test.kube.get(test.namespace, &format!("pod/{pod}"))?;
        let component =
            object["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default();
        if object["status"]["phase"] != "Running" {
            continue;
        }
        if component == "worker" {
            victims.push((test.namespace, pod.clone(), "grid-worker"));
            victims.push((test.namespace, pod, "grid-runner"));
        } else {
            victims.push((test.namespace, pod, "grid-server"));
        }
    }
    for pod in pods::names(&test.kube, "grid-system", "app.kubernetes.io/name=grid-operator")? {
        victims.push(("grid-system", pod, "grid-operator"));
    }
    for (namespace, pod, program) in victims {
        course.expect_running().with_context(|| format!("before {program} of {pod} was killed"))?;
        let start = std::time::Instant::now();
        pods::kill(&test.kube, namespace, &pod, program)?;
        println!("    killed {program} of {pod}: ready again after {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
