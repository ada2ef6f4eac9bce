//! Everything that happens to a grid in a year, in half an hour of builds.
//!
//! `GRID_NODES` says how many nodes the cluster has, two where it is not given; with one, no node is emptied or dies.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use super::builds::{self, Course};
use super::on_cluster::TestGrid;
use crate::gridcluster::Cluster;
use crate::{grid, operator, pods, process, reference, wait, waits};

/// Actions that run on the grid while all this happens.
const ACTIONS: usize = 2_000;
/// The pool that follows the demand, and the most pods that it may have.
const BURST: (&str, i64) = ("gcc14", 10);
/// Bazel's flags for that pool's toolchain, and for more actions at a time than it has slots.
const BURST_FLAGS: [&str; 2] = ["--config=gcc14", "--jobs=40"];
/// The node that is emptied and dies: the ingress controller, the database and the bucket are on the other.
const VICTIM: &str = "node2";
const SURVIVOR: &str = "node1";
const PAIRS: [&str; 2] = ["secret/demo-server-tls", "secret/demo-client-tls"];
const TOKENS: &str = "secret/demo-credentials";

/// Builds run all the time. Meanwhile the operator is upgraded, servers and workers are replaced, the database is restarted,
/// gets a new password and is migrated, a pool goes from nothing to ten pods and back, twice, a node is emptied, a
/// node dies, the leader is killed, certificates and tokens are replaced, and the bucket is cleaned every minute. No action
/// fails, none runs anywhere but on the grid, and Fleet has a reason for each that waits.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn big() -> Result<()> {
    let nodes = std::env::var("GRID_NODES").map_or(Ok(2), |text| text.parse::<u32>())?;
    let cluster = grid::cluster_with_operator(nodes)?;
    let test = TestGrid::apply(&cluster, "big-test", &["postgres.yaml", "s3.yaml"], "../e2e/grids/big.yaml")?;
    for service in ["statefulset/postgres", "statefulset/s3"] {
        let place = json!({"kubernetes.io/hostname": SURVIVOR});
        test.patch(service, &json!({"spec": {"template": {"spec": {"nodeSelector": place}}}}))?;
        test.kubectl(&["rollout", "status", service, "--timeout=180s"])?;
    }
    test.settled()?;
    let old_token = token(&test)?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let (_, waits) = waits::recorded(&cluster, test.namespace, "demo", || {
        builds::meanwhile(&mut workspace, &clients, &[], |course| {
            test.kubectl(&["annotate", "grid/demo", "grid.build/rotate-tokens=once"])?;
            let step = |what: &str, act: &dyn Fn() -> Result<()>| happens(course, what, act);
            step("the operator is upgraded to two replicas", &|| operator::replicas(&test.kube, 2))?;
            step("the servers are replaced", &|| roll(&test, "grid", "once"))?;
            step("the workers are replaced", &|| roll(&test, "pool", "once"))?;
            step("the leader is killed", &|| operator::kill_leader(&test.kube).map(drop))?;
            step("the database is killed", &|| {
                pods::kill(&test.kube, test.namespace, "postgres-0", "postgres")
            })?;
            step("certificates are replaced", &|| certificates(&test))?;
            step("the database's password is replaced, and the database migrated", &|| password(&test))?;
            step("a pool from 0 to 10, to 0, to 10 and to 0", &|| burst(&test))?;
            if nodes > 1 {
                step("a node is emptied", &|| empty_node(&test))?;
                step("a node dies and comes back", &|| kill_node(&test, &cluster))?;
            }
            step("the old token is let in no more", &|| {
                wait::until("the rotation of the tokens", 1_200, || has_rotated(&test, &old_token))
            })?;
            wait::until("2,000 actions", 1_800, || {
                course.expect_running()?;
                Ok(course.actions() >= ACTIONS)
            })
        })
    })?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    expect_cleaned(&test)?;
    test.settled()?;
    operator::replicas(&test.kube, 1)?;
    waits.tell()?;
    test.delete()
}

fn happens(course: &Course, what: &str, act: &dyn Fn() -> Result<()>) -> Result<()> {
    course.expect_running().with_context(|| format!("before: {what}"))?;
    let start = Instant::now();
    act().with_context(|| what.to_owned())?;
    println!("    {what}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Has all pods of that kind of resource replaced, as a change of their template does.
fn roll(test: &TestGrid<'_>, kind: &str, turn: &str) -> Result<()> {
    for object in test.names(kind)? {
        let metadata = json!({"annotations": {"example.org/rolled": turn}});
        test.patch(&object, &json!({"spec": {"podTemplate": {"metadata": metadata}}}))?;
    }
    test.settled()
}

fn certificates(test: &TestGrid<'_>) -> Result<()> {
    test.kubectl(&[&["delete"], &PAIRS[..]].concat())?;
    PAIRS.iter().try_for_each(|pair| test.kube.wait(test.namespace, pair, "create", 60))
}

/// In two steps, as `docs/secrets.md` has it: another role with another password, and the first one is let in no more once
/// every server knows the other.
fn password(test: &TestGrid<'_>) -> Result<()> {
    let sql = |text: &str| {
        let words = ["exec", "--namespace", test.namespace, "postgres-0", "--", "psql", "--host=/tmp"];
        let user = ["--username=grid", "--dbname=grid", "--quiet", "--command", text];
        process::run(test.kube.kubectl(words).args(user))
    };
    sql("CREATE ROLE grid_next LOGIN PASSWORD 'for-tests-too' IN ROLE grid")?;
    sql("ALTER ROLE grid_next SET role TO grid")?;
    let generation = || -> Result<i64> {
        let object = test.kube.get(test.namespace, "deployment/demo-execution")?;
        Ok(object["metadata"]["generation"].as_i64().unwrap_or_default())
    };
    let before = generation()?;
    let uri = "postgresql://grid_next:for-tests-too@postgres:5432/grid";
    test.patch("secret/postgres-app", &json!({"stringData": {"uri": uri}}))?;
    wait::until("servers with the new password", 420, || Ok(generation()? > before))?;
    test.settled()?;
    sql("ALTER ROLE grid NOLOGIN")
}

/// Builds on a pool that has no pods, twice.
fn burst(test: &TestGrid<'_>) -> Result<()> {
    let (pool, most) = BURST;
    let deployment = format!("deployment/{pool}-worker");
    let replicas = || -> Result<i64> {
        Ok(test.kube.get(test.namespace, &deployment)?["spec"]["replicas"].as_i64().unwrap_or(-1))
    };
    wait::until("a pool of no pods", 120, || Ok(replicas()? == 0))?;
    let (mut workspace, clients) = test.bazel_in("burst", "demo")?;
    for turn in ["first", "second"] {
        let mut flags = BURST_FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--copt=-DGRID_BURST_{turn}"));
        std::thread::scope(|scope| -> Result<()> {
            let builder = scope.spawn(|| workspace.build(&clients, &[grid::bazelrc()], &flags));
            let mut grown = false;
            wait::until("ten pods", 300, || {
                grown |= replicas()? == most;
                Ok(grown || builder.is_finished())
            })?;
            let summary = builder.join().map_err(|_| anyhow!("the thread that builds panicked"))??;
            println!("    {turn} burst: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
            anyhow::ensure!(grown, "the build ended before the pool had {most} pods");
            summary.expect_remote(crate::project::COMPILE_ACTIONS)
        })?;
        wait::until("no pods any more", 300, || Ok(replicas()? == 0))?;
        workspace.clean()?;
    }
    Ok(())
}

fn empty_node(test: &TestGrid<'_>) -> Result<()> {
    let flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=600s"];
    let drained = process::run(test.kube.kubectl(["drain", VICTIM]).args(flags));
    let settled = drained.and_then(|()| test.settled());
    process::run(&mut test.kube.kubectl(["uncordon", VICTIM]))?;
    settled
}

fn kill_node(test: &TestGrid<'_>, cluster: &Cluster) -> Result<()> {
    // Pods are on it again.
    roll(test, "grid", "twice")?;
    process::run(&mut cluster.command(["node", "kill", VICTIM]))?;
    let node = format!("node/{VICTIM}");
    let settled =
        test.kube.wait(test.namespace, &node, "condition=Ready=Unknown", 60).and_then(|()| test.settled());
    process::run(&mut cluster.command(["node", "start", VICTIM]))?;
    test.kube.wait(test.namespace, &node, "condition=Ready", 120)?;
    settled
}

fn token(test: &TestGrid<'_>) -> Result<String> {
    let secret = test.kube.get(test.namespace, TOKENS)?;
    Ok(secret["data"]["worker-token"].as_str().context("no worker-token")?.to_owned())
}

/// No step is left, and the token is another.
fn has_rotated(test: &TestGrid<'_>, old: &str) -> Result<bool> {
    let secret = test.kube.get(test.namespace, TOKENS)?;
    let step = &secret["metadata"]["annotations"]["grid.build/rotation-step"];
    Ok(step.is_null() && secret["data"]["worker-token"] != old)
}

/// The bucket was cleaned, again and again, without a failure.
fn expect_cleaned(test: &TestGrid<'_>) -> Result<()> {
    let list = ["get", "--namespace", test.namespace, "jobs", "-o", "json"];
    let selector = ["--selector", "app.kubernetes.io/component=cleanup"];
    let jobs: Value = serde_json::from_str(&process::output(test.kube.kubectl(list).args(selector))?)?;
    let jobs = jobs["items"].as_array().context("a list without items")?;
    let failed = jobs.iter().filter(|job| job["status"]["failed"].as_i64().unwrap_or(0) > 0).count();
    let done = jobs.iter().filter(|job| job["status"]["succeeded"] == 1).count();
    println!("    cleanup: {done} of the last {} runs succeeded, {failed} with a failure", jobs.len());
    anyhow::ensure!(done > 0, "no run of the cleanup succeeded");
    Ok(())
}
