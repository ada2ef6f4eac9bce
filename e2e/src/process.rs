//! Starting other programs: to their end, or in the background until dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// Runs a command to its end; its output goes where ours goes.
///
/// # Errors
/// Where it can't be started, or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("can't start: {shown}"))?;
    if status.success() { Ok(()) } else { bail!("{shown}: {status}") }
}

/// What a command printed, and whether it succeeded.
pub(crate) struct Output {
    /// Standard output and standard error, one after the other.
    pub(crate) text: String,
    /// Whether it ended with status 0.
    pub(crate) success: bool,
}

impl Output {
    /// Fails unless the text contains `part`.
    ///
    /// # Errors
    /// Where it does not; the whole text is in the error.
    pub(crate) fn expect(&self, part: &str) -> Result<()> {
        anyhow::ensure!(self.text.contains(part), "{part:?} was not said:\n{}", self.text);
        Ok(())
    }

    /// How many lines of the text contain `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.text.lines().filter(|line| line.contains(part)).count()
    }
}

/// Gives a command something to read, and gives all that it printed, whatever its status.
///
/// # Errors
/// Where it can't be started, or does not read to the end.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<Output> {
    let shown = show(command);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| format!("can't start: {shown}"))?;
    let mut pipe = child.stdin.take().with_context(|| format!("no pipe to: {shown}"))?;
    // It may print before it has read everything.
    let (written, output) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    let output = output.with_context(|| format!("can't wait for: {shown}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        written.map_err(|_| anyhow!("the thread that writes to {shown} panicked"))?.with_context(|| shown)?;
    }
    Ok(Output { text, success: output.status.success() })
}

/// Runs a command and gives all that it printed, whatever its status.
///
/// # Errors
/// Where it can't be started.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't start: {shown}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Output { text, success: output.status.success() })
}

/// Runs a command and gives its standard output.
///
/// # Errors
/// Where it can't be started or fails; its standard error is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't start: {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program in the background; it is killed when this is dropped.
pub(crate) struct Background {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
}

impl Background {
    /// Starts a program; what it prints is kept in `log` as well.
    ///
    /// # Errors
    /// Where it can't be started or the log can't be written.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let shown = show(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start: {shown}"))?;
        let (sender, lines) = mpsc::channel();
        let mut file = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] =
            [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
        for stream in streams.into_iter().flatten() {
            let (sender, mut file) = (sender.clone(), file.try_clone()?);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes());
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        std::io::Write::flush(&mut file)?;
        Ok(Self { name, child, lines })
    }

    /// Waits until the program prints a line that contains `text`, and gives that line.
    ///
    /// # Errors
    /// Where it ends, or has not done so within `limit`.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let mut seen = Vec::new();
        let end = std::time::Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => seen.push(line),
                Err(_) => {
                    let tail = seen[seen.len().saturating_sub(20)..].join("\n");
                    bail!(
                        "{}: no line with {text:?} within {} s; it printed:\n{tail}",
                        self.name,
                        limit.as_secs()
                    );
                }
            }
        }
    }

    /// Whether the program still runs.
    ///
    /// # Errors
    /// Where it has ended: with what it printed since it was last waited for.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let printed: Vec<String> = self.lines.try_iter().collect();
            bail!("{}: ended ({status}); it printed:\n{}", self.name, printed.join("\n"));
        }
        Ok(())
    }

    /// Asks the program to end, and gives its exit code.
    ///
    /// # Errors
    /// Where it can't be signalled or waited for.
    pub(crate) fn terminate(mut self) -> Result<Option<i32>> {
        run(Command::new("kill").arg(self.child.id().to_string()))?;
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
