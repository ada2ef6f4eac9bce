//! `execute`, `operation`, `logstream`, and what needs no server.

use std::fs;

use grid_proto::longrunning::Operation;
use grid_proto::reapi::{
    Action, ActionResult, Command, Directory, ExecuteResponse, FileNode, OutputDirectory, OutputFile, Tree,
};
use grid_proto::rpc;
use prost::Message as _;

use crate::fake::{Fake, State, wire};
use crate::run::{command, finish, grid};

#[tokio::test]
async fn a_command_runs_and_its_outputs_come_back() {
    let fake = Fake::start(State::default()).await;
    let (object, err) = (fake.store("object"), fake.store("warning\n"));
    let node = FileNode { name: "inner".into(), digest: Some(wire(&object)), ..Default::default() };
    let root = Directory { files: vec![node], ..Default::default() };
    let tree = fake.store(Tree { root: Some(root), children: vec![] }.encode_to_vec());
    let file = OutputFile {
        path: "d/a.o".into(),
        digest: Some(wire(&object)),
        is_executable: true,
        ..Default::default()
    };
    let made = OutputDirectory { path: "made".into(), tree_digest: Some(wire(&tree)), ..Default::default() };
    let result = ActionResult {
        exit_code: 7,
        stdout_raw: "building\n".into(),
        stderr_digest: Some(wire(&err)),
        output_files: vec![file],
        output_directories: vec![made],
        ..Default::default()
    };
    fake.state().outcome = ExecuteResponse { result: Some(result), ..Default::default() };

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/a.c"), "int a;").unwrap();
    let line = "execute command --output-file d/a.o --output-directory out -p OSFamily linux --priority -3 src cc -c a.c";
    let ran = grid(&fake, folder.path(), line).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "building\n", "warning\n"));
    assert_eq!(fs::read(folder.path().join("out/d/a.o")).unwrap(), b"object");
    assert_eq!(fs::read(folder.path().join("out/made/inner")).unwrap(), b"object");

    let request = fake.state().executed[0].clone();
    assert!(request.skip_cache_lookup);
    assert_eq!(request.execution_policy.unwrap().priority, -3);
    let text = |digest: Option<grid_proto::reapi::Digest>| digest.unwrap().hash;
    let action: Action = fake.message(&text(request.action_digest));
    assert!(action.do_not_cache);
    let command: Command = fake.message(&text(action.command_digest));
    assert_eq!(command.arguments, ["cc", "-c", "a.c"]);
    let input: Directory = fake.message(&text(action.input_root_digest));
    assert_eq!(input.files[0].name, "a.c");
}

#[tokio::test]
async fn outputs_stay_in_their_folder() {
    let fake = Fake::start(State::default()).await;
    let content = fake.store("x");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    for path in ["../escaped", "/tmp/escaped"] {
        let file = OutputFile { path: path.into(), digest: Some(wire(&content)), ..Default::default() };
        let result = ActionResult { output_files: vec![file], ..Default::default() };
        fake.state().outcome = ExecuteResponse { result: Some(result), ..Default::default() };
        let ran = grid(&fake, folder.path(), "execute command --output-directory out src true").await;
        assert_eq!(ran.code, 65, "{ran:?}");
    }
    assert!(!folder.path().join("escaped").exists());
}

#[tokio::test]
async fn a_failed_operation_is_told_from_a_failed_command() {
    let status = rpc::Status { code: 4, message: "took too long".into(), ..Default::default() };
    let outcome = ExecuteResponse { status: Some(status), ..Default::default() };
    let fake = Fake::start(State { outcome, ..Default::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    for line in ["operation wait op-1", "execute request-dummy --wait-for-completion"] {
        let ran = grid(&fake, folder.path(), line).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("DEADLINE_EXCEEDED: took too long"), "{}", ran.err);
    }
}

#[tokio::test]
async fn operations_are_listed_page_by_page_shown_and_cancelled() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let out = grid(&fake, folder.path(), "operation list --filter stage=QUEUED").await.ok();
    assert!(
        out.contains("main/op-1") && !out.contains("main/op-2") && out.contains("--page-token 'two'"),
        "{out}"
    );
    let out =
        grid(&fake, folder.path(), "operation list --filter-string stage=QUEUED --all --json").await.ok();
    let names: Vec<_> =
        out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    assert_eq!((names.len(), &names[1]["name"]), (2, &"main/op-2".into()));

    fake.state()
        .operations
        .insert("main/bare".into(), Operation { name: "main/bare".into(), ..Default::default() });
    let out = grid(&fake, folder.path(), "operation status bare --json").await.ok();
    assert_eq!(out, "{\"name\":\"main/bare\"}\n");
    grid(&fake, folder.path(), "operation cancel main/op-1").await.ok();
    assert_eq!(fake.state().cancelled, ["main/op-1"]);
}

#[tokio::test]
async fn what_is_written_to_a_log_is_read_from_it() {
    let fake = Fake::start(State::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let out = grid(&fake, folder.path(), "logstream create build --json").await.ok();
    let stream: serde_json::Value = serde_json::from_str(&out).unwrap();
    let name = |key: &str| stream[key].as_str().unwrap().to_owned();
    assert_eq!(name("name"), "main/build/logStreams/1");
    let mut write = command(folder.path());
    write.args(["logstream", "write", &name("writeResourceName")]).env("BUILDGRID_REMOTE", fake.address());
    finish(write, "one\ntwo\n").await.ok();
    let out = grid(&fake, folder.path(), &format!("logstream read {}", name("name"))).await.ok();
    assert_eq!(out, "one\ntwo\n");
}

#[tokio::test]
async fn help_teaches_and_completions_complete() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |line: &str| {
        let mut grid = command(folder.path());
        grid.args(line.split(' '));
        finish(grid, "").await.ok()
    };
    assert!(run("--help").await.contains("Exit codes:"));
    for group in
        ["cas", "action-cache", "execute", "operation", "logstream", "capabilities", "quota", "why", "fleet"]
    {
        let help = run(&format!("{group} --help")).await;
        assert!(help.contains("Examples:") && help.contains("--remote"), "{group}: {help}");
        assert!(help.contains("BUILDGRID_REMOTE"), "{group}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&format!("completions {shell}")).await.contains("upload-dir"), "{shell}");
        let old = run(&format!("completions {shell} --name bgd")).await;
        assert!(old.contains("upload-dir") && old.contains("bgd"), "{shell}");
    }
}
