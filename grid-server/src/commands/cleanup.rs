//! `cleanup`: keeps storages within their watermarks.

use anyhow::bail;

use crate::cli::Cleanup;
use crate::settings;

/// Cleans what the configuration's `cleanup` names. A configuration whose index this version doesn't have is refused when
/// it is read, so that what comes through has nothing to clean.
pub(crate) fn run(arguments: &Cleanup) -> anyhow::Result<()> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    if config.cleanup.is_empty() {
        bail!("the configuration has no `cleanup`: it says which index is kept within which watermarks");
    }
    for cleanup in &config.cleanup {
        bail!("{}: {} has no cleanup in this version", cleanup.name, cleanup.index.place);
    }
    Ok(())
}
