//! What waits, and why, is written down.

use crate::fleet::waits::{self, GAP, Seen};
use crate::store::{QueueStore, StoreResult};

/// Writes what a replica saw; nothing where another one has just done so.
///
/// # Errors
/// The store's.
pub async fn note_waits(store: &dyn QueueStore, seen: &Seen) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    // Two replicas that look at once would begin two spans.
    tx.lock_fleet().await?;
    let now = tx.now();
    let noted = waits::note(&tx.latest_waits(now.before(GAP)).await?, seen, now);
    if noted.is_empty() {
        return Ok(());
    }
    tx.save_waits(&noted).await?;
    tx.commit().await
}
