//! remotetool and rexec, the clients of Bazel's Go SDK: trees and blobs up and down, actions executed, looked at and executed again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::environment;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::process::{self, Output};

const MODULE: &str = "github.com/bazelbuild/remote-apis-sdks";
const VERSION: &str = "v0.0.0-20250924144931-212b8b213918";

/// A tree goes up and comes down the same, so does a blob; an action runs with its inputs and outputs, comes from the
/// cache the second time; one of files is shown, its result downloaded, and executed again by its digest; a failing command
/// tells its code.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn calls() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let worker = Worker::start(dir.path(), &server, &Image::Clients(&cluster), &[])?;
    let address = server.address("x");
    let sdk = Sdk {
        folder: installed()?,
        address: address.trim_start_matches("x://").to_owned(),
        dir: dir.path().to_path_buf(),
    };
    sdk.trees()?;
    sdk.blobs()?;
    sdk.commands()?;
    sdk.actions()?;
    worker.terminate()?;
    server.terminate()
}

/// The programs, the server that they call, and where their files are.
struct Sdk {
    folder: PathBuf,
    address: String,
    dir: PathBuf,
}

impl Sdk {
    fn trees(&self) -> Result<()> {
        let tree = self.tree("tree")?;
        let shown = self.tool(&["--operation=upload_dir", "--json=-", &path(&tree)])?;
        let root = json(&shown.text, "RootDigest")?;
        let back = self.dir.join("back");
        self.tool(&["--operation=download_dir", &format!("--digest={root}"), &path(&back)])?;
        process::run(Command::new("diff").arg("-r").arg(&tree).arg(&back))
    }

    fn blobs(&self) -> Result<()> {
        let content = "a blob\n".repeat(300_000);
        let (file, back) = (self.dir.join("blob"), self.dir.join("blob-back"));
        std::fs::write(&file, &content)?;
        self.tool(&["--operation=upload_blob", &path(&file)])?;
        let sum = process::output(Command::new("sha256sum").arg(&file))?;
        let hash = sum.split(' ').next().context("sha256sum printed nothing")?;
        let digest = format!("--digest={hash}/{}", content.len());
        self.tool(&["--operation=download_blob", &digest, &path(&back)])?;
        ensure!(std::fs::read_to_string(&back)? == content, "the blob came back otherwise");
        Ok(())
    }

    /// rexec: a command of the tree, twice; and one that fails.
    fn commands(&self) -> Result<()> {
        let tree = self.tree("commands")?;
        let root = format!("--exec_root={}", tree.display());
        let script = "mkdir -p out && cat small sub/other > out/both && date +%N > out/time && echo ran";
        let words =
            [&root, "--inputs=small,sub", "--output_files=out/both,out/time", "--", "/bin/sh", "-c", script];
        let mut times = Vec::new();
        for _ in 0..2 {
            self.rexec(&words)?.expect("ran")?;
            ensure!(std::fs::read_to_string(tree.join("out/both"))? == "small\nother\n", "another output");
            times.push(std::fs::read_to_string(tree.join("out/time"))?);
        }
        ensure!(times[0] == times[1], "the second run was not that of the cache");
        let words = [&root, "--inputs=small", "--", "/bin/sh", "-c", "echo wrong >&2; exit 4"];
        let failed = self.rexec(&words)?;
        failed.expect("FAILED with exit code 4")?;
        failed.expect("wrong")
    }

    /// An action of files of its own; then the same by its digest.
    fn actions(&self) -> Result<()> {
        let action = self.dir.join("action");
        std::fs::create_dir_all(&action)?;
        std::fs::rename(self.tree("input")?, action.join("input"))?;
        std::fs::write(action.join("ac.textproto"), "timeout: {seconds: 60}\n")?;
        let command = r#"arguments: ["/bin/sh", "-c", "cp small copy; echo done"] output_files: "copy""#;
        std::fs::write(action.join("cmd.textproto"), command)?;
        let digest = self.execute(&format!("--action_root={}", action.display()), "outputs")?;

        let named = format!("--digest={digest}");
        self.tool(&["--operation=show_action", &named])?.expect("cp small copy")?;
        let result = self.dir.join("result");
        self.tool(&["--operation=download_action_result", &named, &path(&result)])?;
        ensure!(std::fs::read_to_string(result.join("copy"))? == "small\n", "another output was recorded");
        self.execute(&named, "outputs-again").map(drop)
    }

    /// Executes an action; gives its digest.
    fn execute(&self, action: &str, outputs: &str) -> Result<String> {
        let outputs = self.dir.join(outputs);
        let shown = self.tool(&["--operation=execute_action", action, &path(&outputs)])?;
        shown.expect("done")?;
        ensure!(std::fs::read_to_string(outputs.join("copy"))? == "small\n", "another output came down");
        let line = shown.text.lines().find_map(|line| line.strip_prefix("Action digest: "));
        line.map(|digest| digest.trim().to_owned()).context("remotetool does not tell the action's digest")
    }

    fn tree(&self, name: &str) -> Result<PathBuf> {
        let tree = self.dir.join(name);
        std::fs::create_dir_all(tree.join("sub/empty"))?;
        std::fs::write(tree.join("small"), "small\n")?;
        std::fs::write(tree.join("sub/other"), "other\n")?;
        std::fs::write(tree.join("nothing"), "")?;
        std::fs::write(tree.join("sub/large"), b"0123456789abcdef".repeat(500_000))?;
        process::run(Command::new("chmod").arg("+x").arg(tree.join("small")))?;
        Ok(tree)
    }

    fn tool(&self, words: &[&str]) -> Result<Output> {
        let output = self.run("remotetool", words)?;
        ensure!(output.success, "remotetool {} failed:\n{}", words.join(" "), output.text);
        Ok(output)
    }

    /// rexec ends with 0 whatever became of its command; what it prints tells.
    fn rexec(&self, words: &[&str]) -> Result<Output> {
        self.run("rexec", words)
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.folder.join(program));
        command
            .arg(format!("--service={}", self.address))
            .args(["--service_no_security", "--alsologtostderr"]);
        process::capture(command.args(words))
    }
}

fn path(path: &Path) -> String {
    format!("--path={}", path.display())
}

/// The digest of this name in what remotetool prints of an upload, as `HASH/SIZE`.
fn json(text: &str, name: &str) -> Result<String> {
    let after = |text: &str, key: &str| {
        let (_, rest) = text.split_once(&format!("\"{key}\":"))?;
        let value = rest.trim_start().trim_start_matches('"');
        Some(value.chars().take_while(char::is_ascii_alphanumeric).collect::<String>())
    };
    let (_, digest) = text.split_once(name).with_context(|| format!("no {name}:\n{text}"))?;
    let (hash, size) = after(digest, "Hash").zip(after(digest, "Size")).context("no digest was printed")?;
    Ok(format!("{hash}/{size}"))
}

/// The two programs, built once for their version, as a module that requires theirs.
fn installed() -> Result<PathBuf> {
    let folder = environment::cache()?.join("clients").join(format!("remotetool-{VERSION}"));
    if !folder.join("rexec").is_file() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("go.mod"), format!("module clients\n\nrequire {MODULE} {VERSION}\n"))?;
        let programs = ["remotetool", "rexec"].map(|name| format!("{MODULE}/go/cmd/{name}"));
        let mut build = Command::new("go");
        build.args(["build", "-mod=mod", "-o", "."]).args(programs).current_dir(&folder);
        process::run(&mut build)?;
    }
    Ok(folder)
}
