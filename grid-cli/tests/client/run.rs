//! Runs the binary.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::fake::Fake;

/// How one run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output of a run that must have succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

/// `grid` in `folder`, without any settings of whoever runs the tests.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid"));
    command.current_dir(folder).env_clear().env("XDG_CONFIG_HOME", folder).kill_on_drop(true);
    command
}

/// Runs `line`, split at blanks, in `folder` against `fake`.
pub(crate) async fn grid(fake: &Fake, folder: &Path, line: &str) -> Ran {
    let mut command = command(folder);
    command
        .args(line.split(' '))
        .env("BUILDGRID_REMOTE", fake.address())
        .env("BUILDGRID_INSTANCE_NAME", "main");
    finish(command, "").await
}

/// Runs `command` with `input`.
pub(crate) async fn finish(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
