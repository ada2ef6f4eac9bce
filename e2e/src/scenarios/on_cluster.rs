//! A namespace of the test cluster with a grid from one of the examples, and a Bazel that reaches it by the ingress.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::builds::{self, Course};
use crate::bazel::Workspace;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::kube::Kube;
use crate::reapi::Remote;
use crate::{environment, grid, process, reference, wait};

/// The host in the examples; each test has one of its own, for one ingress controller serves them all.
const HOST: &str = "grid.example.com";
/// The port of a grid's servers.
pub(crate) const GRID_PORT: u16 = 50_051;
/// Seconds until what was applied is ready: images are there, databases start and are migrated.
const READY: u32 = 300;
/// The kinds of what the operator makes.
const MADE: &str = "pods,deployments,statefulsets,replicasets,services,ingresses,secrets,serviceaccounts,jobs,cronjobs,leases,roles,rolebindings,networkpolicies,poddisruptionbudgets,configmaps";

/// A grid in a namespace of its own; `delete` removes both.
pub(crate) struct TestGrid<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) kube: Kube<'a>,
    pub(crate) namespace: &'static str,
    /// The hosts of its ingresses, a blank between them.
    hosts: String,
    dir: TempDir,
}

impl<'a> TestGrid<'a> {
    /// Applies `example`, with what it needs from `manifests` of the test cluster (PostgreSQL, Redis, S3), and waits
    /// until all of it is ready.
    ///
    /// # Errors
    /// Where the API server refuses something, or it does not become ready.
    pub(crate) fn apply(
        cluster: &'a Cluster,
        namespace: &'static str,
        needs: &[&str],
        example: &str,
    ) -> Result<Self> {
        let kube = Kube::Test(cluster);
        // An earlier run may have failed and left its own.
        let left = ["delete", "namespace", namespace, "--ignore-not-found", "--wait", "--timeout=180s"];
        process::run(&mut kube.kubectl(left))?;
        let manifest = manifest(example, namespace)?;
        // Only a sandbox of namespaces needs more than the strictest standard allows.
        let sandboxed = manifest.contains("isolation: bubblewrap");
        kube.namespace(namespace, if sandboxed { "privileged" } else { "restricted" })?;
        if !needs.is_empty() {
            cluster.load(&cluster.service_images()?)?;
        }
        for need in needs {
            let path = environment::root().join("e2e/cluster/manifests").join(need);
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
            kube.apply(namespace, &text)?;
        }
        kube.apply(namespace, &manifest)?;
        let hosts = hosts(&manifest);
        let dir = tempfile::tempdir_in(environment::cache()?)?;
        let grid = Self { cluster, kube, namespace, hosts, dir };
        for object in grid.names("cas,grid,pool")? {
            grid.kube.wait(namespace, &object, "condition=Ready", READY)?;
        }
        Ok(grid)
    }

    /// A connection through the TLS ingress, for calls that a client of whole actions doesn't make.
    ///
    /// # Errors
    /// Where the grid says nothing to clients, or can't be reached.
    pub(crate) fn connect(&self) -> Result<crate::remote::Remote> {
        let files = self.kube.config_map(self.namespace, "demo-clients")?;
        let authority = files.get("ca.crt").context("the files for clients have no ca.crt")?;
        let host = format!("{}.example.com", self.namespace);
        crate::remote::Remote::connect(&grid::ingress_address(self.cluster)?, &host, authority)
    }

    /// Applies `example` once more, its tiers and grids without anything that runs, and waits until they are that.
    ///
    /// # Errors
    /// Where the API server refuses something, or it does not come to rest.
    pub(crate) fn apply_asleep(&self, example: &str) -> Result<()> {
        let manifest = manifest(example, self.namespace)?;
        let asleep = |part: &str| match part.contains("kind: WorkerPool") {
            true => part.to_owned(),
            false => part.replace("\nspec:\n", "\nspec:\n  hibernate: true\n"),
        };
        let parts: Vec<String> = manifest.split("---\n").map(asleep).collect();
        self.kube.apply(self.namespace, &parts.join("---\n"))?;
        let hibernated = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=Hibernated";
        self.names("cas,grid")?.iter().try_for_each(|o| self.kube.wait(self.namespace, o, hibernated, 120))
    }

    /// The names, as `kind/name`, of all objects of these kinds.
    ///
    /// # Errors
    /// Where kubectl fails.
    pub(crate) fn names(&self, kinds: &str) -> Result<Vec<String>> {
        let mut list = self.kube.kubectl(["get", "--namespace", self.namespace, kinds, "-o", "name"]);
        Ok(process::output(&mut list)?.lines().map(str::to_owned).collect())
    }

    /// Runs kubectl in the grid's namespace.
    ///
    /// # Errors
    /// Where kubectl fails.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<()> {
        process::run(self.kube.kubectl(words).args(["--namespace", self.namespace]))
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub(crate) fn patch(&self, object: &str, patch: &Value) -> Result<()> {
        self.kubectl(&["patch", object, "--type=merge", &format!("--patch={patch}")])
    }

    /// Waits until the operator has nothing left to do for any resource, as they are now, and each is ready.
    ///
    /// # Errors
    /// Where that takes more than ten minutes.
    pub(crate) fn settled(&self) -> Result<()> {
        wait::until("every resource at rest", 600, || {
            let mut get =
                self.kube.kubectl(["get", "--namespace", self.namespace, "cas,grid,pool", "-o", "json"]);
            // The API server may be what was restarted.
            let output = process::capture(&mut get)?;
            let list: Value = if output.success { serde_json::from_str(&output.text)? } else { Value::Null };
            Ok(list["items"].as_array().is_some_and(|items| items.iter().all(is_at_rest)))
        })
        .with_context(|| self.kube.describe(self.namespace))
    }

    /// Does something while builds run, of which none may fail.
    ///
    /// # Errors
    /// As [`builds::meanwhile`].
    pub(crate) fn while_building(&self, work: impl FnOnce(&Course) -> Result<()>) -> Result<()> {
        let (mut workspace, clients) = self.bazel("demo")?;
        builds::meanwhile(&mut workspace, &clients, &[], work)
    }

    /// A workspace and, for the files that the operator wrote for this grid's clients, a place to run Bazel in.
    ///
    /// # Errors
    /// Where a file can't be read or written.
    pub(crate) fn bazel(&self, grid: &str) -> Result<(Workspace, Clients<'a>)> {
        self.bazel_in("", grid)
    }

    /// The same in a folder of that name, for a second workspace.
    ///
    /// # Errors
    /// As [`TestGrid::bazel`].
    pub(crate) fn bazel_in(&self, folder: &str, grid: &str) -> Result<(Workspace, Clients<'a>)> {
        let workspace = Workspace::new(&self.dir.path().join(folder))?;
        let place = workspace.clients(self.cluster)?;
        let clients = self.reached_from(place, grid)?;
        Ok((workspace, clients))
    }

    /// As [`TestGrid::bazel`], in a place whose local actions have the compiler of the toolchain at `root`.
    ///
    /// # Errors
    /// Where a file can't be read or written.
    pub(crate) fn local_bazel(&self, grid: &str, root: &Path) -> Result<(Workspace, Clients<'a>)> {
        let workspace = Workspace::new(self.dir.path())?;
        let place = reference::with_toolchain(&workspace, self.cluster, root, self.dir.path())?;
        let clients = self.reached_from(place, grid)?;
        Ok((workspace, clients))
    }

    /// A place with the files that the operator wrote for this grid's clients, from which its host is found.
    ///
    /// # Errors
    /// Where a file can't be read or written.
    pub(crate) fn reached_from(&self, place: Clients<'a>, grid: &str) -> Result<Clients<'a>> {
        let files = grid::client_files(&self.kube, self.namespace, grid, self.dir.path())?;
        grid::clients(place, &files, &self.hosts, &grid::ingress_address(self.cluster)?)
    }

    /// The grid as a client of the Remote Execution API reaches it: by its ingress and the CA that the operator hands out.
    ///
    /// # Errors
    /// Where a file can't be read or written.
    pub(crate) fn remote(&self, grid: &str) -> Result<Remote> {
        let files = grid::client_files(&self.kube, self.namespace, grid, self.dir.path())?;
        let address = grid::ingress_address(self.cluster)?;
        let host = self.hosts.split(' ').next().context("the manifest has no ingress")?;
        Remote::behind_ingress(&address, host, &files.join("ca.crt"))
    }

    /// The address at which pods find the one server of this grid.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn server_address(&self, grid: &str) -> Result<String> {
        let service = self.kube.get(self.namespace, &format!("service/{grid}-server"))?;
        let address = service["spec"]["clusterIP"].as_str().filter(|address| *address != "None");
        Ok(address.with_context(|| format!("service {grid}-server has no address of its own"))?.to_owned())
    }

    /// Deletes the grid, and fails unless all that the operator made for it goes too; then the namespace.
    ///
    /// # Errors
    /// Where something is left.
    pub(crate) fn delete(self) -> Result<()> {
        let all =
            ["delete", "--namespace", self.namespace, "--wait", "--timeout=180s", "pool,grid,cas", "--all"];
        process::run(&mut self.kube.kubectl(all))?;
        self.kube.wait_gone(self.namespace, MADE, "app.kubernetes.io/managed-by=grid-operator", 180)?;
        process::run(&mut self.kube.kubectl([
            "delete",
            "namespace",
            self.namespace,
            "--wait",
            "--timeout=180s",
        ]))
    }
}

/// A manifest of `examples`, with a host of the namespace's own.
fn manifest(example: &str, namespace: &str) -> Result<String> {
    Ok(grid::example(example, "localhost")?.replace(HOST, &format!("{namespace}.example.com")))
}

/// The hosts that a manifest's ingresses are to have, a blank between them.
fn hosts(manifest: &str) -> String {
    let hosts = manifest.lines().filter_map(|line| line.strip_prefix("    host: "));
    hosts.collect::<Vec<_>>().join(" ")
}

/// The status tells of the resource as it is now, nothing goes on, nothing waits for its turn, and it is ready.
fn is_at_rest(object: &Value) -> bool {
    let says = |type_: &str, status: &str| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == type_ && c["status"] == status)
    };
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && says("Ready", "True")
        && says("Progressing", "False")
        && !says("RolloutPending", "True")
}
