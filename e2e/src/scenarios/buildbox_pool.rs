//! A pool of BuildBox's programs on a cluster: what `runtime: buildbox` makes.

use anyhow::{Result, ensure};
use grid_proto::reapi::Command;
use grid_proto::reapi::command::EnvironmentVariable;

use super::on_cluster::{GRID_PORT, TestGrid};
use crate::attacks::{self, Mode, Target};
use crate::reapi::{Tree, Work};
use crate::{environment, grid};

/// A program is compiled and run in such pods, over mutual TLS; hostile commands end as `docs/isolation.md` says.
///
/// # Errors
/// Where that is not so.
pub(crate) fn pool() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    cluster.load(&[environment::image("toolchain-buildbox")?])?;
    let test = TestGrid::apply(&cluster, "buildbox-test", &[], "buildbox.yaml")?;
    let remote = test.remote("demo")?;
    let property = ("isolation".to_owned(), Mode::Buildbox.name().to_owned());
    let script = "gcc -o program in/program.c && ./program";
    let path = EnvironmentVariable { name: "PATH".to_owned(), value: "/usr/bin:/bin".to_owned() };
    let command = Command {
        arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment_variables: vec![path],
        output_paths: vec!["program".to_owned()],
        ..Command::default()
    };
    let source = "#include <stdio.h>\nint main(void) { return printf(\"built\\n\") != 6; }\n";
    let inputs = Tree::default().file("in/program.c", source);
    let work = Work { command, inputs, properties: vec![property.clone()], seconds: Some(120) };
    let done = remote.execute(&work)?;
    let built = done.result.exit_code == 0 && remote.stdout(&done.result)? == "built\n";
    ensure!(built && done.result.output_files.len() == 1, "nothing was compiled and run: {done:?}");

    let dir = tempfile::tempdir()?;
    let program = attacks::program(dir.path())?;
    let (address, port) = (test.server_address("demo")?, GRID_PORT);
    Target { remote: &remote, mode: Mode::Buildbox, property, address, port }.withstands(&program)?;
    test.delete()
}
