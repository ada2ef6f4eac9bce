//! From an earlier commit's release to this one and back, part by part, while builds run.
//!
//! `GRID_UPGRADE_FROM` names the commit; the one before this where it is not given.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use crate::environment::{self, VERSION};
use crate::kube::Kube;
use crate::project::{EVERYTHING, ONE_LUA};
use crate::{grid, operator, process, reference, wait};

/// The tag of the earlier commit's images.
const EARLIER: &str = "earlier";
const IMAGES: [&str; 3] = ["grid-server", "grid-worker", "grid-operator"];
/// Pods are replaced for newer templates without waiting long, for the sake of the test's length.
const PACE: &str = "rollout.pauseSeconds=20";
/// The pods of servers and workers; those of Jobs come and go.
const PODS: &str = "app.kubernetes.io/managed-by=grid-operator,!batch.kubernetes.io/job-name";

/// The operator, then tier, servers and pools go from the earlier release to this one, and back in another order, so that
/// every part works with every other of the other release; then the operator goes back alone. No build fails, and an
/// upgrade of the operator replaces no pod by itself.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn upgrade() -> Result<()> {
    let earlier = Release::earlier()?;
    let cluster = grid::cluster_with_operator(1)?;
    cluster.load(&earlier.archives)?;
    let kube = Kube::Test(&cluster);
    earlier.install(&kube)?;
    let test = TestGrid::apply(&cluster, "upgrade-test", &["postgres.yaml"], "postgres.yaml")?;
    expect_versions(&test, EARLIER)?;
    let (mut workspace, clients) = test.bazel("demo")?;
    workspace.goal = ONE_LUA;
    builds::meanwhile(&mut workspace, &clients, &[], |course| {
        let step = |what: &str, act: &dyn Fn() -> Result<()>| -> Result<()> {
            let start = Instant::now();
            act().with_context(|| what.to_owned())?;
            course.next().with_context(|| format!("after {what}"))?;
            println!("    {what}: {:.0} s, with a build after it", start.elapsed().as_secs_f64());
            Ok(())
        };
        step("the operator of this release", &|| replaces_no_pod(&test, || this_operator(&test.kube)))?;
        step("its templates", &|| test.settled())?;
        step("the tier of this release, all else of the earlier", &|| {
            versions(&test, VERSION, EARLIER, EARLIER)
        })?;
        step("tier and servers of this one, workers of the earlier", &|| {
            versions(&test, VERSION, VERSION, EARLIER)
        })?;
        step("all of this release", &|| versions(&test, VERSION, VERSION, VERSION))?;
        step("servers of the earlier, tier and workers of this one", &|| {
            versions(&test, VERSION, EARLIER, VERSION)
        })?;
        step("tier and servers of the earlier, workers of this one", &|| {
            versions(&test, EARLIER, EARLIER, VERSION)
        })?;
        step("servers of this one, tier and workers of the earlier", &|| {
            versions(&test, EARLIER, VERSION, EARLIER)
        })?;
        step("all of this release once more", &|| versions(&test, VERSION, VERSION, VERSION))?;
        step("the operator of the earlier release", &|| {
            replaces_no_pod(&test, || earlier.install(&test.kube))
        })?;
        step("its templates", &|| test.settled())?;
        step("the operator of this release once more", &|| {
            replaces_no_pod(&test, || this_operator(&test.kube))
        })
    })?;
    workspace.goal = EVERYTHING;
    workspace.build(&clients, &[grid::bazelrc()], &[DOWNLOAD_ALL.to_owned()])?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    test.settled()?;
    grid::install(&test.kube, "localhost")?;
    test.delete()
}

/// What an earlier commit is installed from.
struct Release {
    chart: PathBuf,
    archives: Vec<PathBuf>,
}

impl Release {
    /// Builds the commit's images.
    fn earlier() -> Result<Self> {
        let commit = std::env::var("GRID_UPGRADE_FROM").unwrap_or_else(|_| "HEAD~1".to_owned());
        println!("    images of {commit}");
        let words = ["xtask", "images", "--profile", "e2e", "--without-toolchains", "--tag", EARLIER];
        let mut command = Command::new("cargo");
        command.args(words).args(["--commit", &commit]).current_dir(environment::root());
        process::run(&mut command)?;
        let dir = environment::cache()?.join("images").join(EARLIER);
        Ok(Self {
            chart: dir.join("checkout/charts/grid-operator"),
            archives: IMAGES.iter().map(|name| dir.join(format!("{name}.tar"))).collect(),
        })
    }

    fn install(&self, kube: &Kube<'_>) -> Result<()> {
        let tag = format!("image.tag={EARLIER}");
        kube.install(&self.chart, &["image.registry=localhost", &tag, PACE], EARLIER)
    }
}

fn this_operator(kube: &Kube<'_>) -> Result<()> {
    grid::install_with(kube, &["image.registry=localhost", PACE])
}

/// Has another operator look at every resource, and fails where a pod is another than before when it has.
fn replaces_no_pod(test: &TestGrid<'_>, install: impl Fn() -> Result<()>) -> Result<()> {
    let (before, leader) = (pods(test)?, operator::leader(&test.kube)?);
    install()?;
    wait::until("the new operator leads", 120, || {
        let running = crate::pods::names(&test.kube, operator::NAMESPACE, operator::PODS)?;
        Ok(operator::leader(&test.kube)? != leader && running == [operator::leader(&test.kube)?])
    })?;
    // It looks at every resource as soon as it leads; what it may replace by its pace, it replaces later.
    wait::pause(Duration::from_secs(5));
    let after = pods(test)?;
    anyhow::ensure!(before == after, "an operator's upgrade replaced pods: {before:?} became {after:?}");
    Ok(())
}

fn pods(test: &TestGrid<'_>) -> Result<Vec<String>> {
    let mut names = crate::pods::names(&test.kube, test.namespace, PODS)?;
    names.sort();
    Ok(names)
}

/// Asks for a release of each part, and waits until all of them have it.
fn versions(test: &TestGrid<'_>, tier: &str, servers: &str, workers: &str) -> Result<()> {
    for (kind, version) in [("cas", tier), ("grid", servers), ("pool", workers)] {
        for object in test.names(kind)? {
            test.patch(&object, &json!({"spec": {"version": version}}))?;
        }
    }
    test.settled()?;
    for (kind, version) in [("cas", tier), ("grid", servers), ("pool", workers)] {
        expect_version(test, kind, version)?;
    }
    Ok(())
}

fn expect_versions(test: &TestGrid<'_>, version: &str) -> Result<()> {
    ["cas", "grid", "pool"].iter().try_for_each(|kind| expect_version(test, kind, version))
}

fn expect_version(test: &TestGrid<'_>, kind: &str, version: &str) -> Result<()> {
    for name in test.names(kind)? {
        let object: Value = test.kube.get(test.namespace, &name)?;
        anyhow::ensure!(
            object["status"]["version"] == version,
            "{name} is of version {}, and was to be {version}",
            object["status"]["version"]
        );
    }
    Ok(())
}
