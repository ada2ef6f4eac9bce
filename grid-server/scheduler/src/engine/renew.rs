//! Idle bots that called again: their sessions live on.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{ReplicaId, SessionId};
use crate::session::Session;
use crate::store::{QueueStore, StoreResult};

/// Renews sessions whose bots called this replica, and had and got nothing. Gives those for which that is not the
/// whole story: their bots have to be told something, or belong elsewhere by now.
///
/// # Errors
/// The store's.
pub async fn renew(
    store: &dyn QueueStore,
    replica: ReplicaId,
    ids: &BTreeSet<SessionId>,
    lifetime: Duration,
) -> StoreResult<Vec<SessionId>> {
    let mut tx = store.begin().await?;
    let now = tx.now();
    let mut sessions = tx.lock_sessions(&ids.iter().copied().collect::<Vec<_>>()).await?;
    sessions.retain(|session: &Session| session.owner == replica && session.takes_work());
    for session in &mut sessions {
        session.expires_at = now.after(lifetime);
        session.last_seen = now;
    }
    tx.save_sessions(&sessions).await?;
    tx.commit().await?;
    let renewed: BTreeSet<SessionId> = sessions.iter().map(|session| session.id).collect();
    Ok(ids.difference(&renewed).copied().collect())
}
