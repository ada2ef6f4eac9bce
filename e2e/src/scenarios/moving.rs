//! A tier moves to another backend while builds run, as `docs/backup.md` says.

use anyhow::{Result, ensure};
use serde_json::json;

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, process, reference};

/// The tier that takes the place of the disk: every blob goes to both, and what only the disk has is copied when it is used.
const BOTH: &str = r#"
apiVersion: grid.build/v1alpha1
kind: CasStorage
metadata: {name: blobs2}
spec:
  serve: both
  storages:
    - {name: both, replicated: {storages: [bucket, old], copyQueueSize: 10000}}
    - name: bucket
      s3:
        bucket: grid
        endpoint: http://s3:7070
        credentials:
          accessKey: {name: s3, key: access-key-id}
          secretKey: {name: s3, key: secret-access-key}
    - {name: old, remote: {url: "http://blobs-server-pods.move-test.svc:50051"}}
"#;

/// From a disk to a bucket: builds go on while the grid changes to the new tier before the old one, while the old one is
/// taken away, and after it is deleted. None fails, and then all of a build is in the bucket.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn disk_to_bucket() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let needs = ["postgres.yaml", "s3.yaml"];
    let test = TestGrid::apply(&cluster, "move-test", &needs, "postgres.yaml")?;
    let (mut workspace, clients) = test.bazel("demo")?;
    builds::meanwhile(&mut workspace, &clients, &[], |course| {
        course.next()?;
        test.kube.apply(test.namespace, BOTH)?;
        test.patch("grid/demo", &json!({"spec": {"storageRef": {"name": "blobs2"}}}))?;
        test.settled()?;
        println!("    both tiers are used");
        // Every blob that a build needs is read or written, and so is in both.
        course.next()?;
        let bucket: serde_json::Value = test.kube.get(test.namespace, "cas/blobs2")?;
        let bucket =
            bucket["spec"]["storages"].as_array().and_then(|all| all.iter().find(|s| s["name"] == "bucket"));
        test.patch("cas/blobs2", &json!({"spec": {"serve": "bucket", "storages": [bucket]}}))?;
        test.settled()?;
        println!("    the new tier alone is used");
        test.kubectl(&["delete", "cas/blobs", "--wait", "--timeout=120s"])?;
        course.next()
    })?;
    workspace.clean()?;
    let hits = workspace.build(&clients, &[grid::bazelrc()], &[DOWNLOAD_ALL.to_owned()])?;
    hits.expect_all_hits(COMPILE_ACTIONS)?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    let left =
        process::output(&mut test.kube.kubectl(["get", "--namespace", test.namespace, "cas", "-o", "name"]))?;
    ensure!(left.trim() == "casstorage.grid.build/blobs2", "these tiers are left: {left}");
    // The volume was to be kept, and goes with the namespace.
    test.kubectl(&["get", "pvc/data-blobs-server-0"])?;
    test.delete()
}
