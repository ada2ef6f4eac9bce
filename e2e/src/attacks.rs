//! The hostile commands of grid-worker's tests, sent to a pool as real actions.
//!
//! What they try and how each must end is `grid-worker/tests/attacks`, which `docs/isolation.md` is made from too.
//! Neighbour: the scenarios `hostile` and `buildbox-pool`.

#[allow(dead_code, reason = "the tests of grid-worker write the document")]
#[path = "../../grid-worker/tests/attacks/table.rs"]
mod table;

use std::path::Path;
use std::process::Command as Process;

use anyhow::{Result, bail, ensure};
use grid_proto::reapi::Command;
pub(crate) use table::Mode;
use table::{ATTACKS, Attack, End, Scene};
use tonic::Code;

use crate::environment;
use crate::process;
use crate::reapi::{Done, Remote, Tree, Work};

/// The seconds after which a command is ended, whatever it does; one that only that ends gets few.
const SECONDS: i64 = 50;
const SECONDS_OF_THE_STUBBORN: i64 = 3;

/// A pool, and how it is reached.
pub(crate) struct Target<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) mode: Mode,
    /// The property that only this pool has.
    pub(crate) property: (String, String),
    /// Where the pods find the grid's server.
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// The attacker's program, built static: it needs nothing of its root.
///
/// # Errors
/// Where the compiler fails.
pub(crate) fn program(dir: &Path) -> Result<Vec<u8>> {
    let source = environment::root().join("grid-worker/tests/attacks/attack.c");
    let program = dir.join("attack");
    process::run(Process::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(source))?;
    Ok(std::fs::read(program)?)
}

impl Target<'_> {
    /// Sends every attack, and after each one a command that looks at the same inputs.
    ///
    /// # Errors
    /// Naming all that did not end as the table says.
    pub(crate) fn withstands(&self, program: &[u8]) -> Result<()> {
        let mut wrong = Vec::new();
        for (number, attack) in ATTACKS.iter().enumerate() {
            let word = format!("attack-{}-{}-{number}", self.mode.name(), std::process::id());
            // An input of its own, that must stay as it is: what one attack spoils is not told of another.
            let content = format!("precious {number}\n");
            let inputs =
                Tree::default().program("attack", program).file("in", &content).file("dir/in", &content);
            let scene = self.scene(&content);
            if let Err(error) = self.withstand(attack, &scene, &inputs, (&word, &content)) {
                println!("    {}: {}: {error:#}", self.mode.name(), attack.name);
                wrong.push(format!("{}: {error:#}", attack.name));
            }
        }
        println!("    {}: {} attacks, {} not as expected", self.mode.name(), ATTACKS.len(), wrong.len());
        ensure!(wrong.is_empty(), "in {} isolation:\n{}", self.mode.name(), wrong.join("\n"));
        Ok(())
    }

    fn withstand(
        &self,
        attack: &Attack,
        scene: &Scene,
        inputs: &Tree,
        (word, content): (&str, &str),
    ) -> Result<()> {
        let mut words = (attack.words)(scene);
        // What it leaves behind is known by its last word.
        words.resize(4, String::new());
        words.push(word.to_owned());
        let done = self.send(&words, attack.outputs, inputs)?;
        let seen = end_of(&done)?;
        let (expected, why) = attack.end_in_pod(self.mode);
        let harmless = expected == End::Harmless && seen == End::Open;
        let either = expected == End::OpenOrGivenUp && matches!(seen, End::Open | End::GivenUp);
        ensure!(
            seen == expected || harmless || either,
            "{seen:?}, not {expected:?} ({why}): {}",
            String::from_utf8_lossy(&done.result.stderr_raw)
        );
        ensure!(done.result.output_files.is_empty(), "its result has files");
        // BuildBox's programs leave it to the pod's end.
        if self.mode != Mode::Buildbox {
            let left = alive(word)?;
            ensure!(left.is_empty(), "processes of it are alive: {left:?}");
        }
        let look = self.send(&["show".to_owned(), "in".to_owned()], &[], inputs)?;
        let shown = self.remote.stdout(&look.result)?;
        ensure!(shown == content, "the next action saw {shown:?} in place of {content:?}");
        Ok(())
    }

    /// What there is to aim at in a pool's pod. grid-worker is in a container of its own, so nothing of the runner's has
    /// its number: an attack on it aims at a number that nothing has.
    fn scene(&self, content: &str) -> Scene {
        let hash = grid_core::Digest::of(grid_core::DigestFunction::Sha256, content.as_bytes()).hash_hex();
        let (cached, build, socket, worker) = match self.mode {
            Mode::Buildbox => ("cas/objects", "cache/assets/tmp", "casd.sock", "1".to_owned()),
            _ => ("files", "build", "run/runner.sock", i32::MAX.to_string()),
        };
        Scene {
            cache: "/grid/cache".to_owned(),
            cached: format!("/grid/cache/{cached}/{}", &hash[..2]),
            build: format!("/grid/{build}"),
            socket: format!("/grid/{socket}"),
            worker,
            runner: "1".to_owned(),
            address: self.address.clone(),
            port: self.port.to_string(),
        }
    }

    fn send(&self, words: &[String], outputs: &[&str], inputs: &Tree) -> Result<Done> {
        let command = Command {
            arguments: [&["./attack".to_owned()], words].concat(),
            output_paths: outputs.iter().map(|path| (*path).to_owned()).collect(),
            ..Command::default()
        };
        let stubborn = words[0] == "stubborn";
        let seconds = Some(if stubborn { SECONDS_OF_THE_STUBBORN } else { SECONDS });
        let properties = vec![self.property.clone()];
        self.remote.execute(&Work { command, inputs: inputs.clone(), properties, seconds })
    }
}

fn end_of(done: &Done) -> Result<End> {
    Ok(match (Code::from_i32(done.status.code), done.result.exit_code) {
        (Code::Ok, 0) => End::Open,
        (Code::Ok, 1) => End::Refused,
        (Code::Ok, 137 | 153) | (Code::DeadlineExceeded, _) => End::Killed,
        (Code::InvalidArgument, _) => End::OutputRefused,
        (Code::Aborted, _) => End::GivenUp,
        (code, exit) => bail!("an end that no attack should have: {code:?} {exit} {}", done.status.message),
    })
}

/// The processes of this machine, all nodes' pods among them, that have this word in one of their arguments.
fn alive(word: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let arguments = std::fs::read(path.join("cmdline")).unwrap_or_default();
        if arguments.windows(word.len()).any(|part| part == word.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}
