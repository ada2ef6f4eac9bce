//! [`Rates`]: how many calls a second one subject, or one connection, may make (`rates`).
//!
//! Ten seconds' worth of calls may come at once. Whoever is faster than their rate is slowed down: each call waits until it
//! is due. Only a caller who is more than ten seconds of calls ahead is refused, and told when to come again.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::RpcError;

/// How much may come at once, in time.
const BURST: Duration = Duration::from_secs(10);
/// How long a call waits until it is due.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many callers are remembered; of more, those who have not called for the longest are forgotten.
const REMEMBERED: u64 = 100_000;

/// Limits of calls by subject and by connection.
#[derive(Debug)]
pub struct Rates {
    subjects: Option<Meters<String>>,
    connections: Option<Meters<SocketAddr>>,
}

impl Rates {
    /// So many calls a second of each; `None` where there is no limit.
    #[must_use]
    pub fn new(per_subject: Option<u32>, per_connection: Option<u32>) -> Self {
        Self { subjects: per_subject.map(Meters::new), connections: per_connection.map(Meters::new) }
    }

    /// Waits until a call over the connection of `request` is due, of `subject` where one is known, with what to call it.
    ///
    /// # Errors
    /// [`RpcError::Limit`] where that is too far ahead.
    pub(super) async fn wait(&self, subject: Option<(&str, &str)>, request: &Parts) -> Result<(), RpcError> {
        if let (Some(meters), Some(connection)) = (&self.connections, super::layer::peer(request)) {
            meters.wait(connection, "the connection").await?;
        }
        match (&self.subjects, subject) {
            (Some(meters), Some((subject, name))) => meters.wait(subject.to_owned(), name).await,
            _ => Ok(()),
        }
    }
}

/// A meter for each caller.
#[derive(Debug)]
struct Meters<K: Hash + Eq + Send + Sync + 'static> {
    a_second: u32,
    /// When each caller's calls so far will have been paid for.
    paid: Cache<K, Arc<Mutex<Instant>>>,
}

impl<K: Debug + Hash + Eq + Send + Sync + 'static> Meters<K> {
    fn new(a_second: u32) -> Self {
        // Who has not called for longer than a burst owes nothing.
        let paid = Cache::builder().max_capacity(REMEMBERED).time_to_idle(BURST + PATIENCE).build();
        Self { a_second: a_second.max(1), paid }
    }

    async fn wait(&self, caller: K, name: &str) -> Result<(), RpcError> {
        let due = self.take(caller, name)?;
        if let Some(due) = due {
            sleep_until(due).await;
        }
        Ok(())
    }

    /// When the next call of this caller is due; `None` for at once.
    fn take(&self, caller: K, name: &str) -> Result<Option<Instant>, RpcError> {
        let now = Instant::now();
        let paid = self.paid.get_with(caller, || Arc::new(Mutex::new(now)));
        let mut paid = paid.lock();
        let from = (*paid).max(now);
        let ahead = from - now;
        if ahead > BURST + PATIENCE {
            return Err(self.refuse(name, ahead - BURST));
        }
        *paid = from + Duration::from_secs(1) / self.a_second;
        Ok(ahead.checked_sub(BURST).filter(|wait| !wait.is_zero()).map(|wait| now + wait))
    }

    fn refuse(&self, name: &str, wait: Duration) -> RpcError {
        let message = format!("{name} makes more than {} calls a second (rates); call again", self.a_second);
        RpcError::Limit { message, subject: name.to_owned(), retry_after: Some(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_calls_wait_then_they_are_refused() {
        let meters = Meters::new(10);
        let mut waits = Vec::new();
        let refused = loop {
            match meters.take("alice", "alice") {
                Ok(due) => waits.push(due.map_or(Duration::ZERO, |due| due - Instant::now())),
                Err(error) => break error,
            }
        };
        assert_eq!(
            waits.iter().filter(|wait| wait.is_zero()).count(),
            101,
            "ten seconds' worth, and one more"
        );
        assert_eq!(waits.len(), 201);
        assert!(waits.is_sorted() && waits[200] == PATIENCE, "{:?}", waits[200]);
        let RpcError::Limit { subject, retry_after, .. } = refused else { panic!("{refused:?}") };
        assert!(subject == "alice" && retry_after.is_some_and(|wait| wait > PATIENCE), "{retry_after:?}");
        assert!(meters.take("bob", "bob").unwrap().is_none(), "others are not slowed down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_rate_never_waits() {
        let meters = Meters::new(10);
        for _ in 0..1_000 {
            assert!(meters.take(1, "1").unwrap().is_none());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    }
}
