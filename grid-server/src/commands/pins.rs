//! `pin`, `unpin` and `pins`: which blobs cleanup keeps though nobody uses them.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use grid_cache::contents::{self, Contents};
use grid_cas::content::{DigestSet, dedup, missing_of};
use grid_cas::index::{IndexClock, Totals};
use grid_cas::{SharedStore, StoreError};
use grid_core::{Clock as _, Digest, DigestFunction, SystemClock, Timestamp};

use crate::cli::{Pin, Pins, Unpin};
use crate::compose::{self, Found};
use crate::settings;

/// How many blobs one statement names.
const WINDOW: usize = 10_000;
/// How many blobs that are not there are named.
const NAMED: usize = 10;
/// The longest pin: a hundred years.
const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 3600);

/// Pins blobs in every index that knows them. Succeeds where each is known to one.
pub(crate) async fn pin(arguments: &Pin, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(arguments.period <= LONGEST, "--for is more than a hundred years (36500D)");
    let mut code = ExitCode::SUCCESS;
    let (mut wanted, mut pinned) = (Vec::new(), DigestSet::default());
    for found in indexes(arguments.config.as_deref()).await? {
        let place = &found.place;
        match pin_in(&found, arguments).await {
            Ok(Done { wanted: these, changed, at }) => {
                writeln!(out, "{place}: pinned {} until {}", Totals::of(&changed), time(at))?;
                if found.evicts {
                    writeln!(
                        out,
                        "{place}: its disk has a `max-size`, and evicts what is pinned too where that is reached"
                    )?;
                }
                wanted.extend(these);
                pinned.extend(changed);
            }
            Err(error) => {
                writeln!(out, "{place}: failed: {error}")?;
                code = ExitCode::FAILURE;
            }
        }
    }
    let absent = missing_of(&dedup(wanted), |digest| pinned.contains(digest));
    for digest in absent.iter().take(NAMED) {
        writeln!(out, "{}: no index knows it; upload it first", named(digest))?;
    }
    if absent.len() > NAMED {
        writeln!(out, "{} more are not known either", absent.len() - NAMED)?;
    }
    Ok(if absent.is_empty() { code } else { ExitCode::FAILURE })
}

/// Ends pins in every index that has them.
pub(crate) async fn unpin(arguments: &Unpin, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for found in indexes(arguments.config.as_deref()).await? {
        match unpin_in(&found, arguments).await {
            Ok(Done { changed, .. }) => {
                writeln!(out, "{}: {} pinned no longer", found.place, Totals::of(&changed))?;
            }
            Err(error) => {
                writeln!(out, "{}: failed: {error}", found.place)?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Tells which blobs are pinned, and until when.
pub(crate) async fn list(arguments: &Pins, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    for Found { place, indexed, .. } in indexes(arguments.config.as_deref()).await? {
        let clock = IndexClock::of(&*indexed.index, Arc::new(SystemClock)).await?;
        let (mut pages, mut sum) = (indexed.index.pins(clock.now()), Totals::default());
        while let Some(page) = pages.try_next().await? {
            for pin in &page {
                writeln!(out, "{place}: {} until {}", named(&pin.digest), time(pin.until))?;
            }
            sum = sum.plus(Totals::of(page.iter().map(|pin| &pin.digest)));
        }
        writeln!(out, "{place}: {sum} pinned")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was done in one index.
struct Done {
    wanted: Vec<Digest>,
    changed: DigestSet,
    /// Until when pins last, or when they ended.
    at: Timestamp,
}

async fn pin_in(found: &Found, arguments: &Pin) -> Result<Done, StoreError> {
    let wanted = wanted(&found.store, &arguments.digests, arguments.tree).await?;
    let index = &*found.indexed.index;
    let at = IndexClock::of(index, Arc::new(SystemClock)).await?.now().after(arguments.period);
    let mut changed = DigestSet::default();
    for window in wanted.chunks(WINDOW) {
        changed.extend(index.pin(window, at).await?);
    }
    Ok(Done { wanted, changed, at })
}

async fn unpin_in(found: &Found, arguments: &Unpin) -> Result<Done, StoreError> {
    let wanted = wanted(&found.store, &arguments.digests, arguments.tree).await?;
    let index = &*found.indexed.index;
    let at = IndexClock::of(index, Arc::new(SystemClock)).await?.now();
    let mut changed = DigestSet::default();
    for window in wanted.chunks(WINDOW) {
        changed.extend(index.unpin(window, at).await?);
    }
    Ok(Done { wanted, changed, at })
}

/// What is named, and what is beneath it where it names trees. The empty blob is always there, and in no index.
async fn wanted(store: &SharedStore, digests: &[Digest], tree: bool) -> Result<Vec<Digest>, StoreError> {
    let mut wanted = digests.to_vec();
    if tree {
        for root in digests {
            wanted.extend(contents::files(store, root, Contents::Directories).await?.unwrap_or_default());
        }
    }
    wanted.retain(|digest| !digest.is_empty_blob());
    Ok(dedup(wanted))
}

async fn indexes(config: Option<&Path>) -> anyhow::Result<Vec<Found>> {
    let config = settings::read(config)?.sound()?;
    let indexes = compose::indexes(&config).await?;
    anyhow::ensure!(
        !indexes.is_empty(),
        "the configuration has no index (!sql-index or !redis-index), and pins are kept in one: what evicts by itself, \
         a disk with `max-size` or memory, knows of none; put an index before the storage, and bound it by `cleanup`"
    );
    Ok(indexes)
}

/// A digest as the command line takes it.
fn named(digest: &Digest) -> String {
    match digest.function() {
        DigestFunction::Sha256 => digest.to_string(),
        function => format!("{}:{digest}", function.name()),
    }
}

fn time(at: Timestamp) -> String {
    format!("{:.0}", jiff::Timestamp::from_microsecond(at.0).unwrap_or_default())
}
