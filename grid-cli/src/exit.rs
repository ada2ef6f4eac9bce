//! How a command can end: every failure that the client tells, and the exit code that stands for it.
//!
//! Codes 65 and up are those of `sysexits.h`, so that they stay clear of most remote commands' own codes,
//! which `execute command` passes on.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;
use tonic::{Code, Status};

/// What `grid help` says about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the operation ended in failure, or was cancelled
  2    the command line is wrong
  65   content does not match its digest, or is malformed
  66   not found: blob, cached result, operation, stream
  69   the server can't be reached, or stayed unavailable after all retries
  70   the server failed inside, or broke the protocol
  74   a local file can't be read or written
  75   refused for now: a limit or a quota; try again later
  76   refused: the server does not accept or offer this
  77   refused: who you are, or what you may do
  130  interrupted
`execute command` exits with the remote command's own code once it has run.";

/// The process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Success,
    /// An operation ended in failure.
    Operation,
    /// The command line is wrong.
    Usage,
    /// Content does not match its digest.
    Data,
    /// What was asked for does not exist.
    NotFound,
    /// The server can't be reached.
    Unavailable,
    /// The server failed or broke the protocol.
    Server,
    /// A local file can't be read or written.
    LocalIo,
    /// The server refuses for now.
    Busy,
    /// The server refuses the request.
    Refused,
    /// The server refuses the caller.
    Denied,
    /// The user interrupted.
    Interrupted,
    /// The code of the remote command.
    Remote(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Operation => 1,
            Self::Usage => 2,
            Self::Data => 65,
            Self::NotFound => 66,
            Self::Unavailable => 69,
            Self::Server => 70,
            Self::LocalIo => 74,
            Self::Busy => 75,
            Self::Refused => 76,
            Self::Denied => 77,
            Self::Interrupted => 130,
            Self::Remote(code) => code,
        }
    }

    /// The code of a remote command: 0 to 255 as they are, anything else (which no POSIX process can give)
    /// as a failure.
    pub(crate) fn of_command(code: i32) -> Self {
        u8::try_from(code).map_or(Self::Operation, Self::Remote)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command failed. The text names what was tried.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The server answered with an error.
    #[error("{what}: {}", describe(status))]
    Rpc {
        /// What was asked of the server.
        what: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// No connection.
    #[error("can't connect to {remote}: {reason}")]
    Connect {
        /// The address as given.
        remote: String,
        /// Why, down to the last cause.
        reason: String,
    },
    /// A local file can't be read or written.
    #[error("{what}: {source}")]
    Local {
        /// What was tried, with the path.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// A result can't be printed.
    #[error("can't write the result: {0}")]
    Output(io::Error),
    /// An argument is wrong in a way that only shows later.
    #[error("{0}")]
    Usage(String),
    /// Content is not what its digest says.
    #[error("{0}")]
    Data(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The server's answer makes no sense.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server does not offer what was asked.
    #[error("{0}")]
    Unsupported(String),
    /// The operation ended in failure; the text says how.
    #[error("{0}")]
    Operation(String),
    /// The user interrupted.
    #[error("interrupted{0}")]
    Interrupted(String),
}

impl Failure {
    /// A failure on a local file or device.
    pub(crate) fn local(what: impl Into<String>, source: io::Error) -> Self {
        Self::Local { what: what.into(), source }
    }

    /// A failure to `verb` the file at `path`.
    pub(crate) fn path(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::local(format!("can't {verb} {}", path.display()), source)
    }

    /// The server's error in answer to `what`.
    pub(crate) fn rpc(what: impl Into<String>, status: Status) -> Self {
        Self::Rpc { what: what.into(), status: Box::new(status) }
    }

    /// Whether nothing should be said: the reader of our output left, as `head` does.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Rpc { status, .. } => exit_of(status.code()),
            Self::Connect { .. } => Exit::Unavailable,
            Self::Output(_) if self.is_silent() => Exit::Success,
            Self::Local { .. } | Self::Output(_) => Exit::LocalIo,
            Self::Usage(_) => Exit::Usage,
            Self::Data(_) => Exit::Data,
            Self::NotFound(_) => Exit::NotFound,
            Self::Protocol(_) => Exit::Server,
            Self::Unsupported(_) => Exit::Refused,
            Self::Operation(_) => Exit::Operation,
            Self::Interrupted(_) => Exit::Interrupted,
        }
    }
}

/// The exit code for a gRPC status code.
pub(crate) fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Success,
        Code::NotFound => Exit::NotFound,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
        Code::ResourceExhausted | Code::Aborted => Exit::Busy,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
        Code::DataLoss => Exit::Data,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::AlreadyExists
        | Code::Unimplemented => Exit::Refused,
        Code::Cancelled => Exit::Operation,
        Code::Internal | Code::Unknown => Exit::Server,
    }
}

fn describe(status: &Status) -> String {
    let code = code_name(status.code());
    let hint = match status.code() {
        Code::Unauthenticated => " (pass --auth-token, or --client-key and --client-cert)",
        Code::Unimplemented => " (does this address serve it?)",
        _ => "",
    };
    match status.message() {
        "" => format!("{code}{hint}"),
        message => format!("{code}: {message}{hint}"),
    }
}

/// The code as the specifications write it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let gone = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert!(gone.is_silent());
        assert_eq!(gone.exit(), Exit::Success);
        let full = Failure::Output(io::ErrorKind::StorageFull.into());
        assert!(!full.is_silent());
        assert_eq!(full.exit(), Exit::LocalIo);
    }

    #[test]
    fn remote_commands_keep_their_code_when_a_process_can_have_it() {
        assert_eq!(Exit::of_command(0).code(), 0);
        assert_eq!(Exit::of_command(255).code(), 255);
        assert_eq!(Exit::of_command(-9), Exit::Operation);
        assert_eq!(Exit::of_command(256), Exit::Operation);
    }

    #[test]
    fn every_code_is_in_the_table_that_help_prints() {
        for code in 0..=16 {
            let exit = exit_of(Code::from_i32(code)).code();
            assert!(
                EXIT_CODES.lines().any(|line| line.trim_start().starts_with(&format!("{exit} "))),
                "{exit}"
            );
        }
    }
}
