//! An action's result for people; shared by `action-cache`, `execute` and `operation`.

use grid_proto::reapi::{ActionResult, Digest};

use crate::digests;
use crate::exit::Failure;
use crate::printer::Printer;

/// Prints `result`: exit code, outputs, streams, times.
pub(crate) fn print(result: &ActionResult, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.line(format_args!("exit code  {}", result.exit_code))?;
    stream("stdout", &result.stdout_raw, result.stdout_digest.as_ref(), printer)?;
    stream("stderr", &result.stderr_raw, result.stderr_digest.as_ref(), printer)?;
    for file in &result.output_files {
        let mark = if file.is_executable { " (executable)" } else { "" };
        printer.line(format_args!(
            "file       {}  {}{mark}",
            digests::text(file.digest.as_ref()),
            file.path
        ))?;
    }
    for directory in &result.output_directories {
        let tree = digests::text(directory.tree_digest.as_ref().or(directory.root_directory_digest.as_ref()));
        printer.line(format_args!("directory  {tree}  {}", directory.path))?;
    }
    let links = [&result.output_symlinks, &result.output_file_symlinks, &result.output_directory_symlinks];
    for link in links.into_iter().flatten() {
        printer.line(format_args!("link       {} -> {}", link.path, link.target))?;
    }
    if let Some(metadata) = &result.execution_metadata {
        printer.line(format_args!("worker     {}", metadata.worker))?;
        let times = [
            ("queued", &metadata.queued_timestamp),
            ("started", &metadata.worker_start_timestamp),
            ("completed", &metadata.worker_completed_timestamp),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                printer.line(format_args!("{name:9}  {time}"))?;
            }
        }
    }
    Ok(())
}

fn stream(name: &str, raw: &[u8], digest: Option<&Digest>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if !raw.is_empty() {
        return printer.line(format_args!("{name:9}  {}", String::from_utf8_lossy(raw).trim_end()));
    }
    match digest.filter(|digest| digest.size_bytes > 0) {
        Some(digest) => printer.line(format_args!("{name:9}  {}", digests::text(Some(digest)))),
        None => Ok(()),
    }
}
