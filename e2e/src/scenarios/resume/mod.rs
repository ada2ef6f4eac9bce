//! Calls through the ingress that are cut when their replica dies, and go on where they were on another one.

mod action;
mod blob;
pub(super) mod events;
mod log;
mod tree;

use anyhow::Result;

use super::on_cluster::TestGrid;
use crate::{grid, pods};

/// An upload of 64 MiB, a log stream with its reader, a build event stream, the pages of a tree and the wait for an action
/// go through the TLS ingress to two replicas of each server. The one in use is killed in the middle and its pod
/// deleted; the client goes on, and nothing is lost or has to be said twice beyond what the protocol says.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn resume() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "resume-test", &["postgres.yaml"], "postgres.yaml")?;
    let remote = test.connect()?;
    let replicas = Replicas { test: &test };
    blob::upload(&remote, &replicas)?;
    log::followed(&remote, &replicas)?;
    events::published(&remote, &replicas)?;
    tree::paged(&remote, &replicas)?;
    action::waited_for(&remote, &replicas)?;
    test.delete()
}

/// The replicas of the grid's servers.
struct Replicas<'a> {
    test: &'a TestGrid<'a>,
}

impl Replicas<'_> {
    /// Kills the replica of `component` in which a call of `method` is under way.
    ///
    /// # Errors
    /// Where there is none.
    fn kill_busy(&self, component: &str, method: &str) -> Result<()> {
        let (kube, namespace) = (&self.test.kube, self.test.namespace);
        let pod = pods::busy(kube, namespace, &self.names(component)?, method)?;
        println!("    {method}: killing {pod}");
        pods::end(kube, namespace, &pod, "grid-server")
    }

    /// The pods of `component`.
    fn names(&self, component: &str) -> Result<Vec<String>> {
        let labels = format!("app.kubernetes.io/instance=demo,app.kubernetes.io/component={component}");
        pods::names(&self.test.kube, self.test.namespace, &labels)
    }

    /// Kills a pod of `component`.
    fn kill(&self, pod: &str) -> Result<()> {
        pods::end(&self.test.kube, self.test.namespace, pod, "grid-server")
    }

    /// Waits until both replicas of `component` are there again.
    fn wait_for_both(&self, component: &str) -> Result<()> {
        let object = format!("deployment/demo-{component}");
        self.test.kube.wait(self.test.namespace, &object, "jsonpath={.status.readyReplicas}=2", 120)
    }
}
