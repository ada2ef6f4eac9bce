//! `check`: everything that is wrong with a configuration, in one go.

use std::io::Write;
use std::process::ExitCode;

use grid_config::Severity;

use crate::cli::Check;
use crate::settings;

/// Prints what there is to say. Succeeds where the configuration can be served.
pub(crate) fn run(arguments: &Check, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let settings = settings::read(arguments.config.as_deref())?;
    let counts = |severity: Severity| settings.diagnostics.iter().filter(|d| d.severity == severity).count();
    for diagnostic in &settings.diagnostics {
        writeln!(out, "{}", diagnostic.render(&settings.name))?;
    }
    let deprecated = counts(Severity::Deprecated);
    let errors = counts(Severity::Error) + if arguments.strict { deprecated } else { 0 };
    let warnings = counts(Severity::Warning) + if arguments.strict { 0 } else { deprecated };
    let sound = errors == 0 && settings.config.is_some();
    let verdict = if sound { "can be served" } else { "can't be served" };
    writeln!(
        out,
        "{}: {verdict}: {} and {}",
        settings.name,
        count(errors, "error"),
        count(warnings, "warning")
    )?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
