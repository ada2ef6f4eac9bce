//! BuildBox: its worker as a bot of the grid, its CAS daemon in front of the grid and behind it, and its tools.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::process::{self, Background};
use crate::{environment, reference};

const START: Duration = Duration::from_secs(60);
/// Where the daemons' sockets are, seen from each client.
const FRONT: &str = "unix:/shared/front.sock";
/// Where the daemon of a bot keeps and stages what it fetches.
const CACHE: &str = "/var/cache/front";
const BEHIND: &str = "unix:/shared/behind.sock";

/// buildbox-worker, fetching and storing through a daemon in front of the grid, runs what clients ask for and tells
/// exit codes.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn worker() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let remote = server.address("http");
    let bot = bot(&cluster, dir.path(), &remote, &["OSFamily=linux"])?;
    let place = place(&cluster, dir.path(), "client")?;

    let all = ["trexe", "--remote", &remote, "--do-not-cache"];
    let input = ["--input-path=/shared/tree:in", "--output-path=out.txt", "--d=/tmp/out"];
    let copy = ["/bin/sh", "-c", "cat in/small in/sub/other > out.txt; echo copied"];
    let through = ["--cas-remote", FRONT];
    let done = place.succeed("/", &[&all[..], &through, &input, &copy].concat())?;
    done.expect("copied")?;
    place.succeed("/", &["cat", "/tmp/out/out.txt"])?.expect("small\nother\n")?;
    let script = "trexe --remote=\"$1\" --do-not-cache /bin/sh -c 'exit 4'; echo ended with $?";
    place.succeed("/", &["sh", "-c", script, "sh", &remote])?.expect("ended with 4")?;
    drop(bot);
    server.terminate()
}

/// A tree goes up and comes down the same through a daemon in front of the grid, and through a grid whose blobs lie in
/// a daemon; a result's action can be looked at, its output be followed while it runs, and a log be streamed.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn tools() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let remote = server.address("http");
    let _front = casd(&cluster, dir.path(), "front", &["--cas-remote", &remote])?;
    let _behind = casd(&cluster, dir.path(), "behind", &[])?;
    let over = dir.path().join("over");
    std::fs::create_dir(&over)?;
    std::os::unix::fs::symlink(dir.path().join("shared"), over.join("shared"))?;
    let wrapper = Server::start(&over, "buildbox/behind.yml")?;
    let place = place(&cluster, dir.path(), "client")?;
    let wrapped = wrapper.address("http");
    same_tree(&place, FRONT, &[FRONT, &remote])?;
    same_tree(&place, &wrapped, &[&wrapped, BEHIND])?;
    wrapper.terminate()?;

    let worker = Worker::start(dir.path(), &server, &Image::Clients(&cluster), &[])?;
    let words = ["trexe", "--remote", &remote, "--do-not-cache", "--stream-logs"];
    let script = "for n in 1 2 3; do echo line $n; sleep 0.2; done";
    let shown = place.succeed("/", &[&words[..], &["/bin/sh", "-c", script]].concat())?;
    ensure!(shown.count("line ") == 3, "not three lines were streamed:\n{}", shown.text);
    results_are_printed(&place, &remote)?;
    worker.terminate()?;
    log_stream(&place, &remote)?;
    server.terminate()
}

/// trexe and rexplorer print a result, whoever executed it: both know a digest, and little else, in its metadata.
fn results_are_printed(place: &Clients<'_>, remote: &str) -> Result<()> {
    let script = "trexe --remote=\"$1\" --log-level=debug --action-result-json=/tmp/result.json \
            /bin/sh -c 'echo printed' >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
        action=$(grep -o 'Generated action: Digest: [0-9a-f/]*' /tmp/log | grep -o '[0-9a-f]*/[0-9]*$')
        cat /tmp/result.json && echo && rexplorer --remote=\"$1\" --action=\"$action\"";
    let shown = place.succeed("/", &["sh", "-c", script, "sh", remote])?;
    ensure!(
        shown.count("auxiliaryMetadata") == 2,
        "trexe and rexplorer did not print the result:\n{}",
        shown.text
    );
    shown.expect("build.bazel.remote.execution.v2.Digest")
}

/// Uploads a tree to `to`, and downloads it from each of `from`.
fn same_tree(place: &Clients<'_>, to: &str, from: &[&str]) -> Result<()> {
    let upload = ["casupload", "--remote", to, "--output-digest-file=/tmp/digest", "/shared/tree"];
    place.succeed("/", &upload)?;
    let digest = place.succeed("/", &["cat", "/tmp/digest"])?;
    let root = format!("--root-digest={}", digest.text.trim());
    for remote in from {
        place.succeed("/", &["rm", "-rf", "/tmp/back"])?;
        place.succeed("/", &["casdownload", "--remote", remote, "--destination-dir=/tmp/back", &root])?;
        place.succeed("/", &["diff", "-r", "/shared/tree", "/tmp/back"])?;
        place.succeed("/", &["test", "-x", "/tmp/back/small", "-a", "-L", "/tmp/back/link"])?;
    }
    Ok(())
}

/// outputstreamer makes a stream and writes it; logstreamtail reads it, to its end.
fn log_stream(place: &Clients<'_>, remote: &str) -> Result<()> {
    let script = "echo one line | outputstreamer --remote=\"$1\" --log-level=debug >/tmp/log 2>&1 || exit 1
        name=$(grep -o 'logstreams/[-0-9a-f]*' /tmp/log | head -n 1)
        logstreamtail --remote=\"$1\" --resource-name=\"$name\"";
    let read = place.succeed("/", &["sh", "-c", script, "sh", remote])?;
    ensure!(read.text.trim() == "one line", "the stream held {:?}", read.text);
    Ok(())
}

/// A place with the folder that all share, and a tree in it.
fn place<'a>(cluster: &'a Cluster, dir: &Path, name: &str) -> Result<Clients<'a>> {
    Ok(Clients::new(cluster, &dir.join(name))?.bind(&shared(dir)?, "/shared"))
}

fn shared(dir: &Path) -> Result<PathBuf> {
    let shared = dir.join("shared");
    if !shared.is_dir() {
        let tree = shared.join("tree");
        std::fs::create_dir_all(tree.join("sub"))?;
        std::fs::write(tree.join("small"), "small\n")?;
        std::fs::write(tree.join("sub/other"), "other\n")?;
        std::fs::write(tree.join("empty"), "")?;
        std::fs::write(tree.join("sub/large"), b"0123456789abcdef".repeat(500_000))?;
        std::os::unix::fs::symlink("small", tree.join("link"))?;
        process::run(Command::new("chmod").arg("+x").arg(tree.join("small")))?;
    }
    Ok(shared)
}

fn casd(cluster: &Cluster, dir: &Path, name: &'static str, more: &[&str]) -> Result<Background> {
    let (bind, cache) = (format!("--bind=unix:/shared/{name}.sock"), format!("/var/cache/{name}"));
    let words = [&["buildbox-casd", "--log-level=info", &bind], more, &[&cache]].concat();
    let place = place(cluster, dir, name)?;
    let mut daemon = Background::start(
        "buildbox-casd",
        &mut place.command("/", &words),
        &dir.join(name).with_extension("log"),
    )?;
    daemon.wait_for("Server listening on", START)?;
    Ok(daemon)
}

/// buildbox-worker with these properties and its daemon, which share the folders that inputs are staged in; inputs are
/// linked, as in a pod, which has no FUSE.
///
/// # Errors
/// Where it does not start.
pub(super) fn bot(cluster: &Cluster, dir: &Path, remote: &str, properties: &[&str]) -> Result<Background> {
    bot_in(&place(cluster, dir, "bot")?, dir, remote, properties)
}

/// The same, with the compiler of the toolchain at `root`: the daemon's cache, in which inputs are staged, is seen by it.
///
/// # Errors
/// As [`bot`].
pub(super) fn compiling_bot(
    cluster: &Cluster,
    dir: &Path,
    root: &Path,
    remote: &str,
    properties: &[&str],
) -> Result<Background> {
    let cache = dir.join("front");
    std::fs::create_dir_all(&cache)?;
    let place = place(cluster, dir, "bot")?.bind(&cache, CACHE);
    bot_in(&reference::compiling(place, root, dir, &[(&cache, CACHE)])?, dir, remote, properties)
}

fn bot_in(place: &Clients<'_>, dir: &Path, remote: &str, properties: &[&str]) -> Result<Background> {
    let script = "export BUILDBOX_STAGER=hardlink
        buildbox-casd --cas-remote=\"$1\" --bind=unix:/shared/front.sock /var/cache/front &
        exec buildbox-worker --bots-remote=\"$1\" --cas-remote=unix:/shared/front.sock \
            --buildbox-run=/usr/bin/buildbox-run-hosttools --concurrent-jobs=2 $2 bot";
    let properties: Vec<_> = properties.iter().map(|property| format!("--platform {property}")).collect();
    let mut command = place.command("/", &["sh", "-c", script, "sh", remote, &properties.join(" ")]);
    let mut bot = Background::start("buildbox-worker", &mut command, &dir.join("bot.log"))?;
    bot.wait_for("Starting buildbox-worker", START).context("buildbox-worker did not start")?;
    Ok(bot)
}
