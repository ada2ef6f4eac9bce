//! [`IndexClock`]: the time as an index's database has it. What one process notes there another one compares with its own
//! time: were these their machines' clocks, one that is ahead would shorten what was promised, and take claims for ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use grid_core::{Clock, Timestamp};

use super::BlobIndex;
use crate::StoreError;
use crate::wait::hurried;

/// How often to ask the database, and how soon where it did not answer.
const ASK_EVERY: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A clock that goes as the machine's does, and is set by that of an index's database.
#[derive(Debug)]
pub struct IndexClock {
    machine: Arc<dyn Clock>,
    /// How far the database is ahead of the machine, in microseconds.
    ahead: AtomicI64,
}

impl IndexClock {
    /// The clock of an index, for one piece of work.
    ///
    /// # Errors
    /// The database's trouble.
    pub async fn of(index: &dyn BlobIndex, machine: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let clock = Self { machine, ahead: AtomicI64::new(0) };
        clock.set_by(index).await?;
        Ok(clock)
    }

    /// The clock of an index for as long as it is used: set now if the database answers, and again every minute. Until the
    /// database has answered it is the machine's; but then nothing is noted, either.
    pub async fn following(index: Arc<dyn BlobIndex>, machine: Arc<dyn Clock>) -> Arc<Self> {
        let clock = Arc::new(Self { machine, ahead: AtomicI64::new(0) });
        let mut set = hurried(clock.set_by(&*index)).await;
        let follower = Arc::downgrade(&clock);
        tokio::spawn(async move {
            loop {
                if let Err(error) = &set {
                    tracing::debug!(%error, "an index's database did not tell its time");
                }
                tokio::time::sleep(if set.is_ok() { ASK_EVERY } else { ASK_AGAIN }).await;
                let Some(clock) = follower.upgrade() else { return };
                set = clock.set_by(&*index).await;
            }
        });
        clock
    }

    async fn set_by(&self, index: &dyn BlobIndex) -> Result<(), StoreError> {
        let asked = self.machine.now().0;
        let Some(there) = index.time().await? else { return Ok(()) };
        // It said so somewhere between the question and the answer.
        let here = asked + (self.machine.now().0 - asked) / 2;
        self.ahead.store(there.0.saturating_sub(here), Ordering::Relaxed);
        Ok(())
    }
}

impl Clock for IndexClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.machine.now().0.saturating_add(self.ahead.load(Ordering::Relaxed)))
    }
}
