//! [`Turns`]: how many downloads run at once. Hosts are told apart, so that one that is slow holds up nobody's but its own.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::OriginError;

/// How many downloads run at once; the others wait.
const MOST: usize = 64;
/// How many of them from one host.
const OF_A_HOST: usize = 8;

/// Who may download now.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Only hosts that somebody downloads from, or waits for.
    hosts: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A download that may run, for as long as this is held.
#[derive(Debug)]
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    _host: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST)), hosts: Mutex::default() }
    }

    /// Waits for a turn. Who waits for a host's keeps nobody from another's.
    pub(super) async fn take(&self, host: &str) -> Result<Turn, OriginError> {
        let closed = |_| OriginError::Closed;
        let of_host = self.of(host).acquire_owned().await.map_err(closed)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(closed)?;
        Ok(Turn { _all: all, _host: of_host })
    }

    fn of(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get(host).and_then(Weak::upgrade) {
            return known;
        }
        hosts.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(OF_A_HOST));
        hosts.insert(host.to_owned(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_slow_host_holds_up_its_own_downloads_alone() {
        let turns = Turns::new();
        let mut slow = Vec::new();
        for _ in 0..OF_A_HOST {
            slow.push(turns.take("slow").now_or_never().unwrap().unwrap());
        }
        let mut next = Box::pin(turns.take("slow"));
        assert!(next.as_mut().now_or_never().is_none());
        drop(turns.take("quick").now_or_never().unwrap().unwrap());
        slow.pop();
        let next = next.now_or_never().unwrap().unwrap();
        drop((slow, next));
        drop(turns.take("third").now_or_never().unwrap().unwrap());
        assert_eq!(turns.hosts.lock().len(), 1, "hosts that nobody waits for are forgotten");
    }
}
