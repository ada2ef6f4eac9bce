//! The `grid` command: hands the process's arguments and streams to the library, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    grid_cli::run(std::env::args_os(), &mut std::io::stdout(), &mut std::io::stderr())
}
