//! One file a command group: its options, its calls, and what it prints.

pub(crate) mod action_cache;
pub(crate) mod capabilities;
pub(crate) mod cas;
pub(crate) mod completions;
pub(crate) mod execute;
pub(crate) mod fleet;
mod follow;
pub(crate) mod logstream;
pub(crate) mod operation;
mod operations;
pub(crate) mod quota;
mod results;
mod times;
pub(crate) mod why;

use crate::args::Command;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;

/// Runs `command`, until it ends or the user interrupts.
pub(crate) async fn dispatch(command: Command, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Cas(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::ActionCache(args) => interruptible(Box::pin(args.run(printer))).await,
        // It has an operation to cancel.
        Command::Execute(args) => Box::pin(args.run(printer)).await,
        Command::Operation(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::Logstream(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::Capabilities(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::Quota(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::Why(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::Fleet(args) => interruptible(Box::pin(args.run(printer))).await,
        Command::Completions(args) => args.run(printer),
    }
}

/// Does `work`, unless the user interrupts: it is then dropped, which removes what it has half written.
async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        result = work => result,
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Interrupted(String::new())),
    }
}
