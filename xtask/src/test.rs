//! `cargo xtask test`: runs the rows, says how long each took, and ends in a line that counts them.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::preparation::Preparation;
use crate::record::Records;
use crate::rows::{ROWS, Row, When};
use crate::{setup, shell};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only the row of this name, or the rows whose name contains this where none has it.
    filter: Option<String>,
    /// Run all that the issues ask to be shown; rows that have passed on these sources are not run again.
    #[arg(long)]
    full: bool,
    /// Show the rows and which have passed, and run none.
    #[arg(long)]
    list: bool,
    /// With --full, run the rows that have passed on these sources once more.
    #[arg(long, requires = "full")]
    again: bool,
}

/// Runs the rows that are asked for.
///
/// # Errors
/// Where a row fails; the others have run all the same.
pub(crate) fn run(options: &Options) -> Result<()> {
    let records = Records::open()?;
    let rows: Vec<&Row> = ROWS.iter().filter(|row| wanted(row, options)).collect();
    if options.list {
        for row in rows {
            let state = if records.passed(row.name).is_some() { "passed" } else { "open" };
            println!("{:24} {state:7} {}", row.name, row.shows);
        }
        return Ok(());
    }
    if rows.is_empty() {
        bail!("no row's name contains {:?}; see --list", options.filter.as_deref().unwrap_or_default());
    }
    setup::run()?;
    if options.full {
        setup::full()?;
    }
    let start = Instant::now();
    let mut counts = Counts::default();
    let (passed, open): (Vec<&Row>, _) = rows
        .into_iter()
        .partition(|row| options.full && !options.again && records.passed(row.name).is_some());
    for row in passed {
        println!("==> {}: passed already on these sources", row.name);
        counts.skipped += 1;
    }
    let mut preparation = open.iter().any(|row| row.uses_cluster()).then(Preparation::start).transpose()?;
    for row in open {
        if let Some(preparation) = preparation.take_if(|_| row.uses_cluster()) {
            preparation.wait();
        }
        run_row(row, &records, &mut counts)?;
    }
    println!("==> all in {:.1} min", start.elapsed().as_secs_f64() / 60.0);
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed.len(), counts.skipped);
    if counts.failed.is_empty() { Ok(()) } else { bail!("failed: {}", counts.failed.join(", ")) }
}

#[derive(Default)]
struct Counts {
    passed: usize,
    skipped: usize,
    failed: Vec<&'static str>,
}

fn run_row(row: &Row, records: &Records, counts: &mut Counts) -> Result<()> {
    let start = Instant::now();
    match shell::step(&format!("{} ({})", row.name, row.shows), || row.run()) {
        Ok(()) => {
            records.pass(row.name, &format!("{:.1} s\n", start.elapsed().as_secs_f64()))?;
            counts.passed += 1;
        }
        Err(error) => {
            println!("{error:#}");
            counts.failed.push(row.name);
        }
    }
    Ok(())
}

fn wanted(row: &Row, options: &Options) -> bool {
    let named = options.filter.as_deref().is_none_or(|filter| {
        row.name == filter || (row.name.contains(filter) && ROWS.iter().all(|row| row.name != filter))
    });
    named && (options.full || row.when == When::Always || (options.list && options.filter.is_none()))
}
