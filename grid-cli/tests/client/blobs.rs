//! `cas` and `action-cache`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{ActionResult, Directory};
use prost::Message as _;

use crate::fake::{Fake, State};
use crate::run::{command, finish, grid};

/// Content that zstd can't make small, of `size` bytes.
fn noise(size: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        content.extend(word.to_le_bytes());
    }
    content.truncate(size);
    content
}

fn fill(folder: &Path) {
    fs::create_dir_all(folder.join("sub/deep")).unwrap();
    fs::write(folder.join("large"), noise(3_000_000)).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    for number in 0..300 {
        fs::write(folder.join(format!("sub/{number}")), format!("{number}\n").repeat(5_000)).unwrap();
    }
    fs::write(folder.join("sub/deep/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join("sub/deep/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("deep/run", folder.join("sub/link")).unwrap();
}

#[tokio::test]
async fn a_directory_goes_up_and_comes_down_the_same() {
    for zstd in [false, true] {
        let fake = Fake::start(State { zstd, refusals: 2, ..Default::default() }).await;
        let folder = tempfile::tempdir().unwrap();
        fill(&folder.path().join("in"));
        let out = grid(&fake, folder.path(), "cas upload-dir in --verify").await.ok();
        let digest = out.split("  ").next().unwrap().to_owned();
        let root: Directory = fake.message(&digest);
        assert_eq!(root.files.len(), 2);

        grid(&fake, folder.path(), &format!("cas download-dir {digest} out")).await.ok();
        let read = |path: &str| fs::read(folder.path().join("out").join(path)).unwrap();
        assert_eq!(read("large"), noise(3_000_000));
        assert_eq!(read("sub/299"), "299\n".repeat(5_000).into_bytes());
        assert_eq!(read("sub/link"), b"#!/bin/sh\n");
        let mode = fs::metadata(folder.path().join("out/sub/deep/run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let names = fake.state().transfers.clone();
        assert_eq!(names.iter().any(|(name, _)| name.contains("zstd")), zstd);
    }
}

#[tokio::test]
async fn a_second_upload_sends_nothing() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("in"));
    let sent = |out: String| serde_json::from_str::<serde_json::Value>(&out).unwrap()["sentBlobs"].clone();
    // 302 files that are not empty, and three directories.
    assert_eq!(sent(grid(&fake, folder.path(), "cas upload-dir in --json").await.ok()), 305);
    assert_eq!(sent(grid(&fake, folder.path(), "cas upload-dir in --json").await.ok()), 0);
}

#[tokio::test]
async fn broken_transfers_go_on_where_they_stopped() {
    let fake = Fake::start(State { breaks: 2, ..Default::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("large"), noise(3_000_000)).unwrap();
    let out = grid(&fake, folder.path(), "cas upload-file large").await.ok();
    let digest = Digest::of(DigestFunction::Sha256, &noise(3_000_000)).to_string();
    assert_eq!(out, format!("{digest}  large\n"));
    let writes = std::mem::take(&mut fake.state().transfers);
    assert!(writes.len() == 3 && writes[1].1 > 300_000 && writes[1].0 == writes[0].0, "{writes:?}");

    fake.state().breaks = 2;
    grid(&fake, folder.path(), &format!("cas download-file {digest} copy")).await.ok();
    assert_eq!(fs::read(folder.path().join("copy")).unwrap(), noise(3_000_000));
    let offsets: Vec<_> = fake.state().transfers.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, [0, 300_000, 600_000]);
}

#[tokio::test]
async fn wrong_content_never_becomes_a_file() {
    let fake = Fake::start(State { corrupt: true, ..Default::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    for digest in [fake.store("small"), fake.store(noise(2_000_000))] {
        let ran = grid(&fake, folder.path(), &format!("cas download-file {digest} file")).await;
        assert_eq!(ran.code, 65, "{ran:?}");
        assert!(ran.err.contains(&digest), "{}", ran.err);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let absent = Digest::of(DigestFunction::Sha256, b"absent");
    for line in [
        format!("cas download-file {absent} file"),
        format!("cas download-dir {absent} dir"),
        format!("action-cache get {absent}"),
        "operation status main/none".to_owned(),
        "logstream read none".to_owned(),
    ] {
        let ran = grid(&fake, folder.path(), &line).await;
        assert_eq!((ran.code, ran.out.as_str()), (66, ""), "{line}: {ran:?}");
    }
}

#[tokio::test]
async fn what_exists_is_not_overwritten() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "mine").unwrap();
    let digest = fake.store("other");
    let ran = grid(&fake, folder.path(), &format!("cas download-file {digest} mine")).await;
    assert_eq!(ran.code, 74);
    let ran = grid(&fake, folder.path(), &format!("cas download-dir {digest} .")).await;
    assert_eq!(ran.code, 74);
    assert_eq!(fs::read(folder.path().join("mine")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_result_is_cached_and_read_back() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let result = ActionResult { exit_code: 3, stdout_raw: "hello".into(), ..Default::default() };
    let (action, stored) = (fake.store("action"), fake.store(result.encode_to_vec()));
    grid(&fake, folder.path(), &format!("action-cache update {action} {stored}")).await.ok();
    let out = grid(&fake, folder.path(), &format!("action-cache get {action} --json")).await.ok();
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["exitCode"], &json["stdoutRaw"]), (&3.into(), &"aGVsbG8=".into()));
}

#[tokio::test]
async fn the_classic_spelling_is_understood() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    fs::write(folder.path().join("token"), "secret\n").unwrap();
    let mut upload = command(folder.path());
    let remote = format!("--remote={}", fake.address());
    upload.args([
        "cas",
        &remote,
        "--instance-name",
        "main",
        "--auth-token",
        "token",
        "--invocation-id",
        "i-1",
    ]);
    upload.args(["upload-file", "--verify", "file"]).env("BUILDGRID_CAS_CORRELATION_ID", "c-1");
    finish(upload, "").await.ok();
    let headers = fake.state().headers.clone();
    assert_eq!(headers.get("authorization").unwrap(), "Bearer secret");
    let metadata = headers.get_bin("build.bazel.remote.execution.v2.requestmetadata-bin").unwrap();
    let metadata = grid_proto::reapi::RequestMetadata::decode(metadata.to_bytes().unwrap()).unwrap();
    assert_eq!(metadata.tool_invocation_id, "i-1");
    assert_eq!(metadata.correlated_invocations_id, "c-1");
}

#[tokio::test]
async fn mistakes_and_silence_have_their_codes() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    for (line, code) in [
        ("cas upload-nothing", 2),
        ("cas download-file abc/1 file", 2),
        ("cas upload-file missing", 74),
        ("capabilities --digest-function blake3 --remote ftp://x", 2),
        ("cas upload-dummy --digest-function blake3", 76),
        ("capabilities --remote http://127.0.0.1:1 --retries 0", 69),
    ] {
        let ran = grid(&fake, folder.path(), line).await;
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{line}: {ran:?}");
    }
}
