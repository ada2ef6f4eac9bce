//! Outputs to the letter of REAPI, with real commands through the real worker and runner.

#[cfg(test)]
mod grid;

use grid::tree::Tree;
use grid::{Grid, making, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_makes_a_file_from_a_file() {
    let grid = Grid::start().await;
    let inputs = Tree::default()
        .file("a/in", "hello")
        .program("bin/tool", "#!/bin/sh\ncat a/in > out; echo hi; echo no >&2; exit 3");
    let command = making("./bin/tool", &["out"]);
    let (status, result) = grid.run(&command, &inputs).await;
    assert_eq!(status.code, 0, "{}", status.message);
    assert_eq!(result.exit_code, 3);
    assert_eq!(result.stdout_raw, "hi\n");
    assert_eq!(result.stderr_raw, "no\n");
    assert_eq!(result.output_files.len(), 1);
    let file = &result.output_files[0];
    assert_eq!((file.path.as_str(), file.is_executable), ("out", false));
    assert_eq!(grid.server.get(file.digest.as_ref().unwrap()), "hello");
    let (status, _) = grid.run(&shell("true"), &Tree::default()).await;
    assert_eq!(status.code, 0);
    grid.swept().await;
}
