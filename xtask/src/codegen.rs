//! The generated files that are committed, and the proof that they are current.
//!
//! Each is written by the crate that knows its content, in a test that compares it with the committed file and,
//! where `GRID_BLESS` is set, writes it. This only calls those tests.

use anyhow::Result;
use clap::Args;

use crate::shell;

/// Which crates have generated files, and the test that owns them.
const OWNERS: &[(&str, &str)] = &[
    ("grid-proto", "committed"),
    ("grid-config", "the_documentation_is_generated_from_the_table"),
    ("grid-rpc", "the_documentation_is_current"),
    ("grid-cas", "the_documentation_of_the_matrix_is_current"),
    ("grid-operator-api", "generated_crds_are_current"),
];

/// Options of `cargo xtask codegen`.
#[derive(Args)]
pub(crate) struct Options {
    /// Change nothing; fail where a file is not current.
    #[arg(long)]
    check: bool,
}

/// Writes the generated files, or checks them.
///
/// # Errors
/// Where a file is not current and `--check` is given, or a generator fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    for (package, test) in OWNERS {
        let mut command = shell::command("cargo", ["test", "--quiet", "-p", package, test])?;
        if !options.check {
            command.env("GRID_BLESS", "1");
        }
        shell::step(&format!("{package}: {test}"), || shell::run(&mut command))?;
    }
    Ok(())
}
