//! The client commands of the grid, as a library: `grid` is a thin binary over [`run`], and `grid-server`
//! called by the name `bgd` asks [`bgd`] first.
//!
//! - [`args`]: what the command line and the environment say; no input or output.
//! - [`remote`]: one address: connection, TLS, headers, retries.
//! - [`transfer`]: blobs to and from a CAS, always by stream or batch, always verified.
//! - [`tree`]: directories on disk and as Merkle trees.
//! - [`commands`]: one file a command group; the only place that prints results.
//!
//! Results go to the first stream given, everything else (errors, progress) to the second. The crate
//! serves nothing, stores nothing between two calls, and knows servers by the published protocols alone.

mod args;
mod commands;
mod digests;
mod exit;
mod json;
mod printer;
mod progress;
mod remote;
mod transfer;
mod tree;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::exit::{Exit, Failure};
use crate::printer::Printer;

/// Runs the command that `args` (the program's name first) ask for; results go to `out`, the rest to `err`.
///
/// The exit code says how it went; `grid help` lists the codes.
pub fn run<I, T>(args: I, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    match args::parse(args) {
        Ok(command) => execute(command, out, err).into(),
        Err(refusal) => refuse(&refusal, out, err).into(),
    }
}

/// Runs `args` if they name a client command, so that a server's binary called `bgd` leads to it.
///
/// `None` for everything else, `bgd server start` among it: that is for the caller to handle.
pub fn bgd<I, T>(args: I) -> Option<ExitCode>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let first = args.get(1)?.to_str()?;
    args::is_command(first).then(|| run(args, &mut std::io::stdout(), &mut std::io::stderr()))
}

fn execute(command: args::Command, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::local("start threads", error), err),
    };
    let mut printer = Printer::new(out, &mut *err);
    let result = runtime.block_on(commands::dispatch(command, &mut printer));
    // A read of the standard input that nobody awaits any more must not hold the process.
    runtime.shutdown_background();
    result.and_then(|exit| printer.flush().map(|()| exit)).unwrap_or_else(|failure| report(&failure, err))
}

fn report(failure: &Failure, err: &mut dyn Write) -> Exit {
    if !failure.is_silent() {
        // If even the error can't be told, the exit code still is.
        let _ = writeln!(err, "error: {failure}");
    }
    failure.exit()
}

/// Help and version are answers; anything else that stops the parser is a mistake in the usage.
fn refuse(refusal: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let text = refusal.render();
    if refusal.use_stderr() {
        let _ = write!(err, "{text}");
        return Exit::Usage;
    }
    match write!(out, "{text}") {
        Ok(()) => Exit::Success,
        Err(_) => Exit::LocalIo,
    }
}
