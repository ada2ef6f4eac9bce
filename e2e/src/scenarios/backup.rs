//! A grid is lost and comes back from backups of its database and of its volume, as `docs/backup.md` says.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::builds::DOWNLOAD_ALL;
use super::on_cluster::TestGrid;
use crate::bazel::{Summary, Workspace};
use crate::clients::Clients;
use crate::environment::VERSION;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, process, reference};

const MANIFEST: &str = "../e2e/grids/backup.yaml";
/// The claim of the tier's only pod.
const CLAIM: &str = "data-blobs-server-0";
/// What a second build has that the first one hasn't: every action is another.
const SECOND: &str = "--copt=-DGRID_SECOND";

/// Two builds, and after each a backup of the database and one of the volume. Everything is lost, and comes back from the older
/// database with the newer volume, and from the newer database with the older volume, which `fsck` brings into
/// agreement. What both backups have is a hit, the rest is built once more, and no build misses a blob.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn restore() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "backup-test", &["postgres.yaml"], MANIFEST)?;
    let (mut workspace, clients) = test.bazel("demo")?;
    // A grid that is made anew has a new certificate.
    let reached = |workspace: &Workspace| test.reached_from(workspace.clients(&cluster)?, "demo");
    build(&mut workspace, &clients, &[])?.expect_remote(COMPILE_ACTIONS)?;
    let first = Backup::take(&test, "first")?;
    build(&mut workspace, &clients, &[SECOND])?.expect_remote(COMPILE_ACTIONS)?;
    let second = Backup::take(&test, "second")?;

    // What the volume has and the database doesn't know, and the other way round.
    let found = recover(&test, &first, &second)?;
    ensure!(!found.contains("0 blobs adopted"), "the newer volume has nothing that is not known:\n{found}");
    let clients = reached(&workspace)?;
    build(&mut workspace, &clients, &[])?.expect_all_hits(COMPILE_ACTIONS)?;
    build(&mut workspace, &clients, &[SECOND])?.expect_remote(COMPILE_ACTIONS)?;

    let found = recover(&test, &second, &first)?;
    ensure!(!found.contains("0 blobs forgotten"), "the older volume has all that is known:\n{found}");
    let clients = reached(&workspace)?;
    build(&mut workspace, &clients, &[])?.expect_all_hits(COMPILE_ACTIONS)?;
    // The objects of both builds are the same, so that some of the second's actions have all that they made.
    let rest = build(&mut workspace, &clients, &[SECOND])?;
    rest.expect_remote(0)?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    test.delete()
}

fn build(workspace: &mut Workspace, clients: &Clients<'_>, more: &[&str]) -> Result<Summary> {
    workspace.clean()?;
    let flags: Vec<String> = [DOWNLOAD_ALL].iter().chain(more).map(|flag| (*flag).to_owned()).collect();
    let summary = workspace.build(clients, &[grid::bazelrc()], &flags)?;
    println!("    build {more:?}: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
    Ok(summary)
}

/// What is kept of one moment.
struct Backup {
    database: String,
    /// The claim with a copy of the volume.
    claim: String,
}

impl Backup {
    /// The database first, then the blobs.
    fn take(test: &TestGrid<'_>, name: &str) -> Result<Self> {
        let words = ["exec", "--namespace", test.namespace, "postgres-0", "--", "pg_dump", "--host=/tmp"];
        let database = process::output(test.kube.kubectl(words).args(["--username=grid", "grid"]))?;
        ensure!(database.contains("CREATE TABLE grid."), "the dump has no table of the grid's");
        let claim = format!("{name}-backup");
        make_claim(test, &claim)?;
        copy(test, name, CLAIM, &claim)?;
        Ok(Self { database, claim })
    }
}

/// Loses everything but the backups, restores the database from one and the volume from the other, and gives what `fsck`
/// said.
fn recover(test: &TestGrid<'_>, database: &Backup, volume: &Backup) -> Result<String> {
    test.kubectl(&["delete", "pool,grid,cas", "--all", "--wait", "--timeout=180s"])?;
    test.kubectl(&["wait", "--for=delete", &format!("pvc/{CLAIM}"), "--timeout=120s"])?;
    let sql = |name: &str, text: &str| -> Result<()> {
        let words = ["exec", "--stdin", "--namespace", test.namespace, "postgres-0", "--", "psql"];
        let flags = ["--host=/tmp", "--username=grid", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", name];
        let said = process::feed(test.kube.kubectl(words).args(flags), text)?;
        ensure!(said.success, "psql: {}", said.text);
        Ok(())
    };
    sql("postgres", "DROP DATABASE grid WITH (FORCE)")?;
    sql("postgres", "CREATE DATABASE grid")?;
    sql("grid", &database.database)?;
    make_claim(test, CLAIM)?;
    copy(test, "restore", &volume.claim, CLAIM)?;
    // Nothing runs yet, and fsck finds its configuration.
    test.apply_asleep(MANIFEST)?;
    let said = fsck(test)?;
    for object in ["cas/blobs", "grid/demo"] {
        test.patch(object, &json!({"spec": {"hibernate": false}}))?;
    }
    test.settled()?;
    Ok(said)
}

/// Runs `fsck --repair` in a pod like the tier's own.
fn fsck(test: &TestGrid<'_>) -> Result<String> {
    let set = test.kube.get(test.namespace, "statefulset/blobs-server")?;
    let mut spec: Value = set["spec"]["template"]["spec"].clone();
    let container = spec["containers"][0].as_object_mut().context("a StatefulSet without a container")?;
    for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports"] {
        container.remove(field);
    }
    container.insert("args".to_owned(), json!(["fsck", container["args"][1], "--repair"]));
    spec["restartPolicy"] = json!("Never");
    let volumes = spec["volumes"].as_array_mut().context("a StatefulSet without volumes")?;
    volumes.push(json!({"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}));
    run_job(test, "fsck", &spec)
}

fn make_claim(test: &TestGrid<'_>, name: &str) -> Result<()> {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}});
    test.kube.apply(test.namespace, &claim.to_string())
}

/// Copies all files of one claim's volume to another's.
fn copy(test: &TestGrid<'_>, name: &str, from: &str, to: &str) -> Result<()> {
    let volume =
        |name: &str, claim: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
    let spec = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "copy",
            "image": format!("localhost/toolchain-gcc12:{VERSION}"),
            "command": ["/bin/sh", "-ec", "find /from -mindepth 1 -maxdepth 1 -exec cp -a -t /to {} +"],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "from", "mountPath": "/from"}, {"name": "to", "mountPath": "/to"}],
        }],
        "volumes": [volume("from", from), volume("to", to)],
    });
    run_job(test, &format!("copy-{name}"), &spec).map(drop)
}

/// Runs a pod to its end; what it printed.
fn run_job(test: &TestGrid<'_>, name: &str, spec: &Value) -> Result<String> {
    let job = format!("job/{name}");
    test.kubectl(&["delete", &job, "--ignore-not-found", "--wait"])?;
    let object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}}});
    test.kube.apply(test.namespace, &object.to_string())?;
    let done = test.kube.wait(test.namespace, &job, "condition=Complete", 300);
    let said = process::output(&mut test.kube.kubectl(["logs", "--namespace", test.namespace, &job]))?;
    println!("    {name}: {}", said.trim());
    done.with_context(|| said.clone())?;
    // The pod of a Job that is over would keep its claims from being deleted.
    test.kubectl(&["delete", &job, "--wait"])?;
    Ok(said)
}
