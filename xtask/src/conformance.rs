//! `conformance`: runs the conformance suite against bazel-remote and BuildGrid, and writes what it finds into the document.

use anyhow::Result;

use crate::{bench, buildgrid, shell};

/// Looks at the other servers, and writes the document.
///
/// # Errors
/// Where one can't be made, or the suite can't be run.
pub(crate) fn run() -> Result<()> {
    let (buildgrid, bazel_remote) = (buildgrid::installed()?, bench::bazel_remote()?);
    let test = ["test", "--locked", "-p", "grid-rpc", "--test", "conformance", "--"];
    let look = [&test[..], &["rules_on_other_servers", "--ignored", "--nocapture"]].concat();
    shell::step("the suite on other servers", || {
        let mut look = shell::command("cargo", &look)?;
        shell::run(look.env("GRID_BUILDGRID", buildgrid).env("GRID_BAZEL_REMOTE", bazel_remote))
    })?;
    let write = [&test[..], &["documentation"]].concat();
    shell::run(shell::command("cargo", &write)?.env("GRID_BLESS", "1"))
}
