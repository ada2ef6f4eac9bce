//! grpcurl, which knows no protocol beforehand: what it can call and print, reflection has told it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::environment;
use crate::local::Server;
use crate::process::{self, Output};

const MODULE: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl";
const VERSION: &str = "v1.9.4";

/// A command `true`, and an action that runs it in the empty directory, as they are encoded.
const COMMAND: &str = "CgR0cnVl";
const COMMAND_DIGEST: &str =
    r#"{"hash": "1394a31647aa7eba33b1988cf3bfe1219b5ba45c11ebb19b5bbe07d7204df772", "size_bytes": 6}"#;
const ACTION: &str = "CkQKQDEzOTRhMzE2NDdhYTdlYmEzM2IxOTg4Y2YzYmZlMTIxOWI1YmE0NWMxMWViYjE5YjViYmUwN2Q3MjA0ZGY3NzIQBhJC\
    CkBlM2IwYzQ0Mjk4ZmMxYzE0OWFmYmY0Yzg5OTZmYjkyNDI3YWU0MWU0NjQ5YjkzNGNhNDk1OTkxYjc4NTJiODU1";
const ACTION_DIGEST: &str =
    r#"{"hash": "054435d0a7573cc13cb737477406ab0e34801a7563531631746e21edead1a3e8", "size_bytes": 138}"#;

/// Every service is listed and described, health answers by name, and an operation is printed with what its metadata
/// packs; an unknown instance is refused with its name.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn calls() -> Result<()> {
    let grpcurl = installed()?;
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let target = server.address("x");
    let target = target.trim_start_matches("x://");
    let call = |words: &[&str]| run(&grpcurl, target, words);

    let services = call(&["list"])?;
    for service in ["Execution", "ContentAddressableStorage", "ActionCache", "Capabilities"] {
        services.expect(&format!("build.bazel.remote.execution.v2.{service}"))?;
    }
    services.expect("google.bytestream.ByteStream")?;
    services.expect("google.devtools.remoteworkers.v1test2.Bots")?;
    call(&["describe", "build.bazel.remote.execution.v2.ExecuteOperationMetadata"])?
        .expect("action_digest")?;
    let health = ["-d", r#"{"service": "build.bazel.remote.execution.v2.Execution"}"#];
    call(&[&health[..], &["grpc.health.v1.Health/Check"]].concat())?.expect("SERVING")?;

    let blobs = format!(
        r#"{{"requests": [{{"digest": {COMMAND_DIGEST}, "data": "{COMMAND}"}}, {{"digest": {ACTION_DIGEST}, "data": "{ACTION}"}}]}}"#
    );
    let store = "build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
    ensure!(call(&["-d", &blobs, store])?.count("\"hash\"") == 2, "the action was not stored");
    // Nobody runs it: the call ends with its time, after what it printed.
    let execute = format!(r#"{{"action_digest": {ACTION_DIGEST}}}"#);
    let words = ["-max-time", "10", "-d", &execute, "build.bazel.remote.execution.v2.Execution/Execute"];
    let waiting = process::capture(&mut command(&grpcurl, target, &words))?;
    waiting.expect("build.bazel.remote.execution.v2.ExecuteOperationMetadata")?;
    waiting.expect("\"stage\": \"QUEUED\"")?;
    waiting.expect("type.googleapis.com/google.rpc.Status")?;
    call(&["google.longrunning.Operations/ListOperations"])?.expect("\"actionDigest\"")?;

    let nowhere = ["-d", r#"{"instance_name": "nowhere"}"#];
    let words = [&nowhere[..], &["build.bazel.remote.execution.v2.Capabilities/GetCapabilities"]].concat();
    let refused = process::capture(&mut command(&grpcurl, target, &words))?;
    ensure!(!refused.success, "an instance that does not exist answered:\n{}", refused.text);
    refused.expect("nowhere")?;
    server.terminate()
}

/// grpcurl, built once for its version.
///
/// # Errors
/// Where Go can't build it.
pub(super) fn installed() -> Result<PathBuf> {
    let folder = environment::cache()?.join("clients").join(format!("grpcurl-{VERSION}"));
    let binary = folder.join("grpcurl");
    if !binary.is_file() {
        let mut install = Command::new("go");
        install.arg("install").arg(format!("{MODULE}@{VERSION}")).env("GOBIN", &folder);
        process::run(&mut install)?;
    }
    Ok(binary)
}

/// Flags, the target, then the method that is called or what reflection is asked.
fn command(grpcurl: &Path, target: &str, words: &[&str]) -> Command {
    let verb = ["list", "describe"];
    let at = words.iter().position(|word| verb.contains(word)).unwrap_or(words.len().saturating_sub(1));
    let mut command = Command::new(grpcurl);
    command.arg("-plaintext").args(&words[..at]).arg(target).args(&words[at..]);
    command
}

/// What it prints, which must succeed.
///
/// # Errors
/// Where it fails.
pub(super) fn run(grpcurl: &Path, target: &str, words: &[&str]) -> Result<Output> {
    let output = process::capture(&mut command(grpcurl, target, words))?;
    ensure!(output.success, "grpcurl {} failed:\n{}", words.join(" "), output.text);
    Ok(output)
}
