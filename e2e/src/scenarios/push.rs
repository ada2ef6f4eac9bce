//! The images in a registry, as users of a cluster of their own put them there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{self, Background};
use crate::{environment, grid};

/// `cargo xtask images --push` fills a registry with each image, under the digest that it prints and for its own user, and leaves the images
/// that the tests use as they are.
///
/// # Errors
/// Where an image is missing, has another digest than was printed, or would run as root.
pub(crate) fn images() -> Result<()> {
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let (_server, address) = registry(dir.path())?;
    let target = format!("{address}/grid");
    let before = environment::image("grid-server")?.metadata()?.modified()?;
    let mut push = Command::new("cargo");
    push.args([
        "run",
        "--quiet",
        "--locked",
        "-p",
        "xtask",
        "--",
        "images",
        "--profile",
        "e2e",
        "--insecure",
    ]);
    let printed = process::output(push.args(["--push", &target]).current_dir(environment::root()))?;
    for name in grid::IMAGES {
        let reference = format!("{target}/{name}:{}", environment::VERSION);
        let known = printed
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{reference}@")))
            .with_context(|| format!("no digest of {reference} was printed:\n{printed}"))?;
        let pushed = inspect(&reference, &[])?;
        anyhow::ensure!(
            pushed["Digest"] == known,
            "{reference}: {} was pushed, {known} was printed",
            pushed["Digest"]
        );
        let user = inspect(&reference, &["--config"])?["config"]["User"].clone();
        let number = user.as_str().and_then(|user| user.split(':').next()?.parse::<u32>().ok());
        anyhow::ensure!(number.is_some_and(|number| number > 0), "{reference} would run as {user}");
        println!("    {reference}@{known}");
    }
    let after = environment::image("grid-server")?.metadata()?.modified()?;
    anyhow::ensure!(before == after, "the push changed the images that the tests use");
    Ok(())
}

/// Debian's registry on a free port, with plain HTTP.
fn registry(dir: &Path) -> Result<(Background, String)> {
    let config = dir.join("registry.yml");
    let blobs = dir.join("blobs");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: \"{}\"}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            blobs.display()
        ),
    )?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config);
    let mut server = Background::start("docker-registry", &mut command, &dir.join("registry.log"))?;
    let line = server.wait_for("listening on", Duration::from_secs(30))?;
    let address = line.split("listening on ").nth(1).and_then(|rest| rest.split(['"', ' ']).next());
    Ok((server, address.context("the registry did not say where it listens")?.to_owned()))
}

fn inspect(reference: &str, more: &[&str]) -> Result<Value> {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false"]).args(more).arg(format!("docker://{reference}"));
    serde_json::from_str(&process::output(&mut command)?).context("skopeo inspect: not JSON")
}
