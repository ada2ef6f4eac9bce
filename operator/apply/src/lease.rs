//! Election of the replica that writes, by a Lease.
//!
//! Times are taken from the local monotonic clock alone: a candidate takes over once it has itself seen the Lease
//! unchanged for its whole duration, and a leader stops before that can be the case anywhere, counting from the
//! moment at which it *sent* its last successful renewal. So clocks that differ between nodes don't matter.
//! A Lease can't fence; the writes do that, by their resourceVersion (see `applier`).

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::leadership::Leadership;

/// Who holds the lease, as it is kept by the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// Who holds it; empty where it was released.
    pub holder: String,
    /// How often it changed hands.
    pub transitions: i32,
    /// Version of the record: a change of it is a sign of life of the holder.
    pub version: String,
}

/// Where the lease is kept.
pub trait LeaseStore: Send + Sync {
    /// What goes wrong in it.
    type Error: std::fmt::Display + Send;

    /// The lease; nothing where it was never made.
    fn get(&self) -> impl Future<Output = Result<Option<Term>, Self::Error>> + Send;

    /// Writes the lease over the version in `term`, or makes it where that is empty; the new version. An error
    /// where someone else was first.
    fn put(
        &self,
        term: &Term,
        duration: Duration,
    ) -> impl Future<Output = Result<String, Self::Error>> + Send;
}

/// One replica's part in the election.
pub struct Election<S> {
    store: S,
    identity: String,
    leadership: Leadership,
    duration: Duration,
    seen: Option<(Term, Instant)>,
}

impl<S: LeaseStore> Election<S> {
    /// A candidate called `identity`; a lease is good for `duration`.
    #[must_use]
    pub fn new(store: S, identity: String, leadership: Leadership, duration: Duration) -> Self {
        Self { store, identity, leadership, duration, seen: None }
    }

    /// How often to call [`Self::step`].
    #[must_use]
    pub fn period(&self) -> Duration {
        self.duration / 5
    }

    /// Tries once to become or stay the leader; true if this replica is it.
    pub async fn step(&mut self) -> bool {
        let sent = Instant::now();
        // An answer later than this could not prolong anything.
        let patience = self.duration / 3;
        match tokio::time::timeout(patience, self.try_step(sent)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
            Err(_) => tracing::warn!("the lease could not be renewed in time"),
        }
        self.leadership.is_held()
    }

    async fn try_step(&mut self, sent: Instant) -> Result<(), S::Error> {
        let current = self.store.get().await?;
        let (mine, free) = match &current {
            None => (false, true),
            Some(term) if term.holder == self.identity => (true, true),
            Some(term) if term.holder.is_empty() => (false, true),
            Some(term) => (false, self.has_run_out(term)),
        };
        if !free {
            self.leadership.end();
            return Ok(());
        }
        let mut next = current.unwrap_or_default();
        if !mine {
            next.transitions = next.transitions.saturating_add(1);
            self.identity.clone_into(&mut next.holder);
        }
        self.store.put(&next, self.duration).await?;
        if !mine {
            tracing::info!(identity = self.identity, "became the leader");
        }
        // A third is kept as a margin for a request that is on its way when the leadership ends.
        self.leadership.prolong(sent + self.duration * 2 / 3);
        Ok(())
    }

    /// True once this replica has seen the holder's record unchanged for the whole duration.
    fn has_run_out(&mut self, term: &Term) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == term => since.elapsed() >= self.duration,
            _ => {
                self.seen = Some((term.clone(), Instant::now()));
                false
            }
        }
    }

    /// Stops writing, and lets the next replica begin at once.
    pub async fn release(&mut self) {
        let held = self.leadership.is_held();
        self.leadership.end();
        if !held {
            return;
        }
        let result = async {
            match self.store.get().await? {
                Some(term) if term.holder == self.identity => {
                    let released = Term { holder: String::new(), ..term };
                    self.store.put(&released, self.duration).await.map(|_| ())
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = result.await {
            tracing::warn!(%error, "the lease could not be released: the next leader waits until it has run out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared {
        term: Arc<Mutex<Option<Term>>>,
        down: Arc<Mutex<bool>>,
    }

    impl LeaseStore for Shared {
        type Error = String;

        async fn get(&self) -> Result<Option<Term>, String> {
            if *self.down.lock() { Err("down".into()) } else { Ok(self.term.lock().clone()) }
        }

        async fn put(&self, term: &Term, _: Duration) -> Result<String, String> {
            if *self.down.lock() {
                return Err("down".into());
            }
            let mut current = self.term.lock();
            if current.as_ref().map_or("", |t| &t.version) != term.version {
                return Err("conflict".into());
            }
            let version = term.version.parse::<u64>().unwrap_or(0) + 1;
            *current = Some(Term { version: version.to_string(), ..term.clone() });
            Ok(version.to_string())
        }
    }

    const DURATION: Duration = Duration::from_secs(15);

    fn candidate(store: &Shared, name: &str) -> (Election<Shared>, Leadership) {
        let leadership = Leadership::none();
        (Election::new(store.clone(), name.into(), leadership.clone(), DURATION), leadership)
    }

    #[tokio::test(start_paused = true)]
    async fn only_one_leads_and_the_other_follows_after_the_whole_duration() {
        let store = Shared::default();
        let (mut a, a_leads) = candidate(&store, "a");
        let (mut b, _) = candidate(&store, "b");
        assert!(a.step().await);
        assert!(!b.step().await);
        // a falls silent. b must not lead before a has stopped by itself.
        let start = Instant::now();
        while !b.step().await {
            tokio::time::advance(b.period()).await;
            assert!(start.elapsed() < DURATION * 2, "b never took over");
        }
        assert!(!a_leads.is_held(), "two leaders at once");
        assert!(start.elapsed() >= DURATION);
        assert!(!a.step().await, "a follows now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_was_paused_finds_its_time_over() {
        let store = Shared::default();
        let (mut a, leads) = candidate(&store, "a");
        assert!(a.step().await);
        tokio::time::advance(DURATION * 2 / 3).await;
        assert!(!leads.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_api_server_stops_before_the_lease_ends() {
        let store = Shared::default();
        let (mut a, _) = candidate(&store, "a");
        assert!(a.step().await);
        let sent = Instant::now();
        *store.down.lock() = true;
        while a.step().await {
            tokio::time::advance(a.period()).await;
        }
        assert!(sent.elapsed() < DURATION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_hands_over_at_once() {
        let store = Shared::default();
        let (mut a, a_leads) = candidate(&store, "a");
        let (mut b, _) = candidate(&store, "b");
        assert!(a.step().await && !b.step().await);
        a.release().await;
        assert!(!a_leads.is_held());
        assert!(b.step().await);
        assert_eq!(store.term.lock().as_ref().map(|t| t.transitions), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_of_a_live_leader_keep_the_other_away() {
        let store = Shared::default();
        let (mut a, _) = candidate(&store, "a");
        let (mut b, _) = candidate(&store, "b");
        for _ in 0..50 {
            assert!(a.step().await);
            assert!(!b.step().await);
            tokio::time::advance(a.period()).await;
        }
    }
}
