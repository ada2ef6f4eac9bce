//! `capabilities`: what a server says that it offers.

use grid_core::DigestFunction;
use grid_proto::reapi;
use grid_proto::semver::SemVer;

use crate::args::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::progress::size;
use crate::remote::Remote;

const EXAMPLES: &str = "\
Examples:
  grid capabilities --remote https://grid.example.org --instance-name main
  grid capabilities --json | jq .cacheCapabilities.supportedCompressors
";

/// Show what a server offers.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        let capabilities = remote.capabilities().await?;
        if self.connection.json {
            printer.message(&capabilities)?;
        } else {
            print(&capabilities, printer)?;
        }
        Ok(Exit::Success)
    }
}

fn print(capabilities: &reapi::ServerCapabilities, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let (low, high) = (&capabilities.low_api_version, &capabilities.high_api_version);
    printer.line(format_args!(
        "API versions             {} to {}",
        version(low.as_ref()),
        version(high.as_ref())
    ))?;
    if let Some(cache) = &capabilities.cache_capabilities {
        print_cache(cache, printer)?;
    }
    let execution = capabilities.execution_capabilities.as_ref().filter(|execution| execution.exec_enabled);
    printer.line(format_args!("execution                {}", yes(execution.is_some())))?;
    if let Some(execution) = execution {
        let priorities = priorities(execution.execution_priority_capabilities.as_ref());
        printer.line(format_args!("execution priorities     {priorities}"))?;
    }
    Ok(())
}

fn print_cache(cache: &reapi::CacheCapabilities, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let functions = cache.digest_functions.iter().map(|&function| {
        DigestFunction::from_wire(function).map_or_else(|| format!("#{function}"), |known| known.to_string())
    });
    printer.line(format_args!("digest functions         {}", list(functions)))?;
    let compressors = |values: &[i32]| {
        let names = values.iter().map(|&value| {
            let known = reapi::compressor::Value::try_from(value);
            known.map_or_else(|_| format!("#{value}"), |known| known.as_str_name().to_ascii_lowercase())
        });
        list(names)
    };
    printer.line(format_args!("compressors, streams     {}", compressors(&cache.supported_compressors)))?;
    printer.line(format_args!(
        "compressors, batches     {}",
        compressors(&cache.supported_batch_update_compressors)
    ))?;
    printer.line(format_args!("largest batch            {}", limit(cache.max_batch_total_size_bytes)))?;
    printer.line(format_args!("largest blob             {}", limit(cache.max_cas_blob_size_bytes)))?;
    let update = cache.action_cache_update_capabilities.as_ref().is_some_and(|update| update.update_enabled);
    printer.line(format_args!("action cache updates     {}", yes(update)))?;
    printer.line(format_args!(
        "split and splice         {}",
        yes(cache.split_blob_support && cache.splice_blob_support)
    ))
}

fn version(version: Option<&SemVer>) -> String {
    version.map_or_else(|| "?".to_owned(), |v| format!("{}.{}.{}{}", v.major, v.minor, v.patch, v.prerelease))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let joined = items.collect::<Vec<_>>().join(", ");
    if joined.is_empty() { "none".to_owned() } else { joined }
}

fn limit(bytes: i64) -> String {
    match u64::try_from(bytes) {
        Ok(0) | Err(_) => "no limit told".to_owned(),
        Ok(bytes) => size(bytes),
    }
}

fn priorities(capabilities: Option<&reapi::PriorityCapabilities>) -> String {
    let ranges = capabilities.map(|capabilities| capabilities.priorities.as_slice()).unwrap_or_default();
    list(ranges.iter().map(|range| format!("{} to {}", range.min_priority, range.max_priority)))
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
