//! [`Flights`]: what is asked for by many at once is fetched once.
//!
//! Who comes while something is under way waits for it and has its end, good or bad. Where who began gives up, one of those
//! who wait begins anew. Nothing outlives the last who waits.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use grid_core::Digest;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::origin::OriginError;

/// How a fetch ended, for all who waited.
pub(super) type End = Result<Digest, Arc<OriginError>>;

/// Fetches under way, by a hash of all that makes them the same.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Digest, Weak<OnceCell<End>>>>,
}

impl Flights {
    /// Fetches, or waits for who fetches the same.
    pub(super) async fn join(
        &self,
        same: Digest,
        fetch: impl Future<Output = Result<Digest, OriginError>> + Send,
    ) -> End {
        let flight = self.flight(same);
        flight.get_or_init(|| async { fetch.await.map_err(Arc::new) }).await.clone()
    }

    fn flight(&self, same: Digest) -> Arc<OnceCell<End>> {
        let mut under_way = self.under_way.lock();
        let known = under_way.get(&same).and_then(Weak::upgrade);
        // One that has ended is told to those who waited, and to nobody who came later.
        if let Some(known) = known.filter(|flight| !flight.initialized()) {
            return known;
        }
        under_way.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(OnceCell::new());
        under_way.insert(same, Arc::downgrade(&flight));
        flight
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::future::join_all;
    use grid_core::DigestFunction;
    use tokio::sync::Notify;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(DigestFunction::Sha256, text.as_bytes())
    }

    #[tokio::test]
    async fn what_many_ask_for_at_once_is_fetched_once_and_later_again() {
        let (flights, fetched, came) = (Flights::default(), AtomicUsize::new(0), Notify::new());
        let fetch = || async {
            came.notified().await;
            fetched.fetch_add(1, Ordering::SeqCst);
            Ok(digest("content"))
        };
        let all = join_all((0..100).map(|_| flights.join(digest("a"), fetch())));
        // All of them have asked before it comes.
        let (ends, ()) = tokio::join!(all, async { came.notify_one() });
        assert!(ends.iter().all(|end| *end.as_ref().unwrap() == digest("content")));
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
        came.notify_one();
        flights.join(digest("a"), fetch()).await.unwrap();
        assert_eq!(fetched.load(Ordering::SeqCst), 2);
        came.notify_one();
        flights.join(digest("b"), fetch()).await.unwrap();
        assert_eq!(fetched.load(Ordering::SeqCst), 3, "another thing");
        assert_eq!(flights.under_way.lock().len(), 1, "what has ended is forgotten with the next");
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_and_one_who_gives_up_is_followed() {
        let flights = Flights::default();
        let fail = || async { Err(OriginError::NotFound(404)) };
        let (one, other) = tokio::join!(flights.join(digest("a"), fail()), flights.join(digest("a"), fail()));
        assert!(matches!(
            (&*one.unwrap_err(), &*other.unwrap_err()),
            (OriginError::NotFound(404), OriginError::NotFound(404))
        ));
        let mut first = Box::pin(flights.join(digest("a"), std::future::pending()));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(flights.join(digest("a"), async { Ok(digest("content")) }));
        assert!(second.as_mut().now_or_never().is_none(), "it waits for the first");
        drop(first);
        assert_eq!(second.await.unwrap(), digest("content"));
    }
}
