//! `ActionCache`.

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{
    self, ActionResult, GetActionResultRequest, OutputDirectory, OutputFile, UpdateActionResultRequest,
};
use grid_rpc::digests::to_wire;
use tonic::{Code, Status};

use crate::grid::{Grid, MAIN, READ_ONLY, UNNAMED, malformed_digests, noise, refused, sha256, wire};
use crate::rule::{Rule, accepts, refuses};

const GET: &str = "REAPI GetActionResult";
const UPDATE: &str = "REAPI UpdateActionResult";

fn asking(action: &Digest) -> GetActionResultRequest {
    let action_digest = Some(to_wire(action));
    GetActionResultRequest { instance_name: MAIN.into(), action_digest, ..Default::default() }
}

async fn get(grid: &Grid, request: GetActionResultRequest) -> Result<ActionResult, Status> {
    Ok(grid.action_cache().get_action_result(request).await?.into_inner())
}

fn updating(action: &Digest, result: ActionResult) -> UpdateActionResultRequest {
    UpdateActionResultRequest {
        instance_name: MAIN.into(),
        action_digest: Some(to_wire(action)),
        action_result: Some(result),
        ..Default::default()
    }
}

async fn update(grid: &Grid, request: UpdateActionResultRequest) -> Result<ActionResult, Status> {
    Ok(grid.action_cache().update_action_result(request).await?.into_inner())
}

/// A result with stored outputs: 100 bytes of stdout, 200 of stderr, and two files.
async fn result(grid: &Grid, seed: u64) -> ActionResult {
    let file = async |path: &str, length| OutputFile {
        path: path.into(),
        digest: Some(to_wire(&grid.put(noise(seed + length as u64, length)).await)),
        ..Default::default()
    };
    let output_files = vec![file("a.o", 300).await, file("b/c.o", 400).await];
    ActionResult {
        output_files,
        exit_code: 3,
        stdout_digest: Some(to_wire(&grid.put(noise(seed, 100)).await)),
        stderr_digest: Some(to_wire(&grid.put(noise(seed + 1, 200)).await)),
        ..Default::default()
    }
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = results();
    rules.extend(inlining());
    rules.extend(refusals());
    rules
}

fn results() -> Vec<Rule> {
    vec![
        accepts(UPDATE, "what was recorded is given again, whole", |grid| async move {
            let (action, result) = (sha256(b"action 801"), result(&grid, 801).await);
            assert_eq!(update(&grid, updating(&action, result.clone())).await.unwrap(), result);
            assert_eq!(get(&grid, asking(&action)).await.unwrap(), result);
        }),
        accepts(UPDATE, "a later result takes the place of an earlier one", |grid| async move {
            let action = sha256(b"action 802");
            for exit_code in [1, 2] {
                let result = ActionResult { exit_code, ..Default::default() };
                update(&grid, updating(&action, result)).await.unwrap();
            }
            assert_eq!(get(&grid, asking(&action)).await.unwrap().exit_code, 2);
        }),
        accepts("REAPI 2.0 to 2.8 fields", "fields of earlier versions are kept", |grid| async move {
            let action = sha256(b"action 803");
            let link = reapi::OutputSymlink { path: "l".into(), target: "t".into(), ..Default::default() };
            let result = ActionResult {
                output_file_symlinks: vec![link.clone()],
                output_directory_symlinks: vec![link.clone()],
                output_symlinks: vec![link],
                ..Default::default()
            };
            update(&grid, updating(&action, result.clone())).await.unwrap();
            assert_eq!(get(&grid, asking(&action)).await.unwrap(), result);
        }),
        refuses(GET, "a result that is not there is NOT_FOUND", |grid| async move {
            refused(get(&grid, asking(&sha256(b"no action 804"))).await, Code::NotFound);
        }),
        refuses(GET, "a result of one instance is not another's", |grid| async move {
            let action = sha256(b"action 805");
            update(&grid, updating(&action, ActionResult::default())).await.unwrap();
            let elsewhere = GetActionResultRequest { instance_name: UNNAMED.into(), ..asking(&action) };
            refused(get(&grid, elsewhere).await, Code::NotFound);
        }),
    ]
}

fn inlining() -> Vec<Rule> {
    vec![
        refuses("REAPI inline_stdout", "nothing is inlined that was not asked for", |grid| async move {
            let (action, result) = (sha256(b"action 811"), result(&grid, 811).await);
            update(&grid, updating(&action, result)).await.unwrap();
            let found = get(&grid, asking(&action)).await.unwrap();
            assert!(found.stdout_raw.is_empty() && found.stderr_raw.is_empty());
            assert!(found.output_files.iter().all(|f| f.contents.is_empty()));
        }),
        accepts("REAPI digest_function", "outputs of a BLAKE3 action are inlined", |grid| async move {
            let blake3 = |content: &[u8]| Digest::of(DigestFunction::Blake3, content);
            let (action, output) = (blake3(b"action 818"), noise(818, 100));
            grid.store.write_batch(vec![(blake3(&output), output.clone().into())]).await.remove(0).unwrap();
            let digest = Some(to_wire(&blake3(&output)));
            let file = OutputFile { path: "a".into(), digest: digest.clone(), ..Default::default() };
            let result =
                ActionResult { stdout_digest: digest, output_files: vec![file], ..Default::default() };
            let digest_function = DigestFunction::Blake3.to_wire();
            let request = UpdateActionResultRequest { digest_function, ..updating(&action, result) };
            update(&grid, request).await.unwrap();
            let asked = GetActionResultRequest {
                digest_function,
                inline_stdout: true,
                inline_output_files: vec!["a".into()],
                ..asking(&action)
            };
            let found = get(&grid, asked).await.unwrap();
            assert_eq!(found.stdout_raw, output);
            assert_eq!(found.output_files[0].contents, output);
        }),
        accepts("REAPI inline_stdout", "standard output is inlined", |grid| async move {
            let (action, result) = (sha256(b"action 812"), result(&grid, 812).await);
            update(&grid, updating(&action, result)).await.unwrap();
            let found =
                get(&grid, GetActionResultRequest { inline_stdout: true, ..asking(&action) }).await.unwrap();
            assert_eq!(found.stdout_raw, noise(812, 100));
            assert!(found.stderr_raw.is_empty() && found.stdout_digest.is_some());
        }),
        accepts("REAPI inline_stderr", "standard error is inlined", |grid| async move {
            let (action, result) = (sha256(b"action 813"), result(&grid, 813).await);
            update(&grid, updating(&action, result)).await.unwrap();
            let found =
                get(&grid, GetActionResultRequest { inline_stderr: true, ..asking(&action) }).await.unwrap();
            assert_eq!(found.stderr_raw, noise(814, 200));
        }),
        accepts("REAPI inline_output_files", "output files are inlined by path", |grid| async move {
            let (action, result) = (sha256(b"action 815"), result(&grid, 815).await);
            update(&grid, updating(&action, result)).await.unwrap();
            let inline_output_files = vec!["b/c.o".into(), "no such file".into()];
            let found =
                get(&grid, GetActionResultRequest { inline_output_files, ..asking(&action) }).await.unwrap();
            assert!(found.output_files[0].contents.is_empty());
            assert_eq!(found.output_files[1].contents, noise(815 + 400, 400));
        }),
        refuses("gRPC message size", "outputs too large to inline stay digests", |grid| async move {
            let action = sha256(b"action 816");
            let stdout_digest = Some(to_wire(&grid.put(noise(816, 3 << 20)).await));
            let result = ActionResult { stdout_digest, ..Default::default() };
            update(&grid, updating(&action, result.clone())).await.unwrap();
            let found =
                get(&grid, GetActionResultRequest { inline_stdout: true, ..asking(&action) }).await.unwrap();
            assert_eq!(found, result);
        }),
        accepts("REAPI inline_stdout", "an output that has gone does not fail the call", |grid| async move {
            let action = sha256(b"action 817");
            let result = ActionResult { stdout_digest: Some(wire(b"gone 817")), ..Default::default() };
            update(&grid, updating(&action, result.clone())).await.unwrap();
            let found =
                get(&grid, GetActionResultRequest { inline_stdout: true, ..asking(&action) }).await.unwrap();
            assert_eq!(found, result);
        }),
    ]
}

fn refusals() -> Vec<Rule> {
    vec![
        refuses(UPDATE, "a cache that takes no updates refuses them", |grid| async move {
            let request = updating(&sha256(b"x"), ActionResult::default());
            let request = UpdateActionResultRequest { instance_name: READ_ONLY.into(), ..request };
            refused(update(&grid, request).await, Code::PermissionDenied);
        }),
        refuses(UPDATE, "an update without a result is refused", |grid| async move {
            let request = UpdateActionResultRequest {
                action_result: None,
                ..updating(&sha256(b"x"), ActionResult::default())
            };
            refused(update(&grid, request).await, Code::InvalidArgument);
        }),
        refuses(
            "REAPI Digest",
            "action digests that are unset or malformed are refused",
            |grid| async move {
                let digests = malformed_digests().into_iter().map(Some).chain([None]);
                for action_digest in digests {
                    let asked = GetActionResultRequest {
                        action_digest: action_digest.clone(),
                        ..asking(&sha256(b""))
                    };
                    refused(get(&grid, asked).await, Code::InvalidArgument);
                    let sent = updating(&sha256(b""), ActionResult::default());
                    let sent = UpdateActionResultRequest { action_digest, ..sent };
                    refused(update(&grid, sent).await, Code::InvalidArgument);
                }
            },
        ),
        refuses(
            "REAPI ActionResult",
            "results with malformed digests are refused and not recorded",
            |grid| async move {
                let action = sha256(b"action 821");
                for digest in malformed_digests() {
                    let digest = Some(digest);
                    let file = OutputFile { path: "f".into(), digest: digest.clone(), ..Default::default() };
                    let tree = OutputDirectory { tree_digest: digest.clone(), ..Default::default() };
                    let root =
                        OutputDirectory { root_directory_digest: digest.clone(), ..Default::default() };
                    for result in [
                        ActionResult { output_files: vec![file], ..Default::default() },
                        ActionResult { output_directories: vec![tree], ..Default::default() },
                        ActionResult { output_directories: vec![root], ..Default::default() },
                        ActionResult { stdout_digest: digest.clone(), ..Default::default() },
                        ActionResult { stderr_digest: digest, ..Default::default() },
                    ] {
                        refused(update(&grid, updating(&action, result)).await, Code::InvalidArgument);
                    }
                }
                refused(get(&grid, asking(&action)).await, Code::NotFound);
            },
        ),
        refuses("REAPI ActionResult", "output files without digests are refused", |grid| async move {
            let output_files = vec![OutputFile { path: "f".into(), ..Default::default() }];
            let result = ActionResult { output_files, ..Default::default() };
            refused(update(&grid, updating(&sha256(b"822"), result)).await, Code::InvalidArgument);
        }),
        refuses(GET, "an instance that does not exist is refused", |grid| async move {
            let asked = GetActionResultRequest { instance_name: "nope".into(), ..asking(&sha256(b"x")) };
            refused(get(&grid, asked).await, Code::InvalidArgument);
            let sent = updating(&sha256(b"x"), ActionResult::default());
            let sent = UpdateActionResultRequest { instance_name: "nope".into(), ..sent };
            refused(update(&grid, sent).await, Code::InvalidArgument);
        }),
        refuses("REAPI digest_function", "a function that is not advertised is refused", |grid| async move {
            for digest_function in [4, 7, 8, 10, 99] {
                let asked = GetActionResultRequest { digest_function, ..asking(&sha256(b"x")) };
                refused(get(&grid, asked).await, Code::InvalidArgument);
            }
        }),
    ]
}
