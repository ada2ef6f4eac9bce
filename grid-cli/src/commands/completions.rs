//! `completions`: scripts that make shells complete this command line.

use clap_complete::Shell;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;

const EXAMPLES: &str = "\
Examples:
  source <(grid completions bash)
  grid completions zsh > ~/.zfunc/_grid
  grid completions fish > ~/.config/fish/completions/grid.fish
  source <(grid completions bash --name bgd)
";

/// Print a completion script.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
    /// By which of its names the command is called; bgd's commands for servers are not completed
    #[arg(long, default_value = "grid", value_parser = ["grid", "bgd"])]
    name: String,
}

impl Args {
    /// Prints the script.
    pub(crate) fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::description(), self.name, &mut script);
        printer.bytes(&script)?;
        Ok(Exit::Success)
    }
}
