//! `cleanup`: keeps storages within their watermarks.

use anyhow::bail;

use crate::cli::Cleanup;
use crate::settings;

/// Cleans what the configuration's `cleanup` names; says so where there is nothing to clean, or nothing that this version can.
pub(crate) fn run(arguments: &Cleanup) -> anyhow::Result<()> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    if config.cleanup.is_empty() {
        bail!("the configuration has no `cleanup`: it says which index is kept within which watermarks");
    }
    let named: Vec<String> = config.cleanup.iter().map(|cleanup| cleanup.index.place.to_string()).collect();
    bail!("this version can't clean yet: {}", named.join(", "))
}
