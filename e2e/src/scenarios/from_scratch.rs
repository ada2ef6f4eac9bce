//! A pool whose image holds a compiler, a linker and a library, and nothing else: no shell, no libc, no `/tmp`.

use anyhow::{Result, ensure};
use grid_proto::reapi::Command;

use super::on_cluster::TestGrid;
use crate::reapi::{Remote, Tree, Work};
use crate::{environment, grid};

const SOURCE: &str = "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(6 * 7) }\n";

/// A program is compiled, linked and run, each by an action that gets what the one before made.
///
/// # Errors
/// Where one fails, or the program does not do what its source says.
pub(crate) fn toolchain() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    cluster.load(&[environment::image("toolchain-go")?])?;
    let test = TestGrid::apply(&cluster, "from-scratch-test", &[], "from-scratch.yaml")?;
    let remote = test.remote("demo")?;
    let compile = ["/bin/compile", "-p", "main", "-importcfg", "/lib/importcfg", "-pack", "-o"];
    let sources = Tree::default().file("main.go", SOURCE);
    let object = made(&remote, &[&compile[..], &["main.a", "main.go"]].concat(), sources, "main.a")?;
    let link = ["/bin/link", "-importcfg", "/lib/importcfg", "-o", "program", "main.a"];
    let program = made(&remote, &link, Tree::default().file("main.a", object), "program")?;
    let run = work(&["./program"], Tree::default().program("program", program), &[]);
    let done = remote.execute(&run)?;
    ensure!(remote.stdout(&done.result)? == "42\n", "the program did not print 42: {done:?}");
    test.delete()
}

/// The content of what a command makes.
fn made(remote: &Remote, words: &[&str], inputs: Tree, output: &str) -> Result<Vec<u8>> {
    let done = remote.execute(&work(words, inputs, &[output]))?;
    let file = done.result.output_files.first().and_then(|file| file.digest.as_ref());
    match file {
        Some(digest) if done.result.exit_code == 0 => Ok(remote.blob(digest)?.to_vec()),
        _ => anyhow::bail!("{} failed: {done:?}", words[0]),
    }
}

fn work(words: &[&str], inputs: Tree, outputs: &[&str]) -> Work {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let command = Command { arguments: owned(words), output_paths: owned(outputs), ..Command::default() };
    let properties = vec![("toolchain".to_owned(), "go".to_owned())];
    Work { command, inputs, properties, seconds: None }
}
