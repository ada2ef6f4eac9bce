//! Streams that tell of changes: the present state at once, then each new one.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use grid_proto::fleet::{Demand, DrainStatus};
use grid_scheduler::Scheduler;
use grid_scheduler::fleet::{DrainProgress, DrainState, DrainTarget};
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::{find, wire};
use crate::error::status;

/// The least time between two messages where the request says nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often demand is told although nothing changed, so that a watcher knows it is heard.
const REPEAT: Duration = Duration::from_secs(30);

/// The demand of these pools, all where none is named.
pub(super) fn demand(
    scheduler: Arc<Scheduler>,
    pools: Vec<String>,
    interval: Option<Duration>,
) -> BoxStream<'static, Result<Demand, Status>> {
    let interval = interval.unwrap_or(INTERVAL).max(Duration::from_millis(100));
    async_stream::try_stream! {
        let mut fleet = scheduler.watch_fleet();
        let mut last: Option<Demand> = None;
        let mut silent = Duration::ZERO;
        loop {
            fleet.mark_unchanged();
            let now = wire::demand(&scheduler.demand().await.map_err(status)?, &pools);
            if silent >= REPEAT || last.as_ref().is_none_or(|last| differs(last, &now)) {
                silent = Duration::ZERO;
                last = Some(now.clone());
                yield now;
            }
            // The fleet is read again at least at each safety poll, which sees what came without news.
            sleep(interval).await;
            silent += interval;
            if let Ok(Err(_)) = timeout(REPEAT, fleet.changed()).await {
                return;
            }
        }
    }
    .boxed()
}

/// Whether anything but the passing of time changed.
fn differs(before: &Demand, now: &Demand) -> bool {
    let settled = |demand: &Demand| {
        let mut demand = demand.clone();
        demand.observed_at = None;
        for pool in &mut demand.pools {
            pool.oldest_queue_age = None;
        }
        for unplaced in &mut demand.unplaced {
            unplaced.oldest_queue_age = None;
        }
        demand
    };
    settled(before) != settled(now)
}

/// How far a drain gets, until it is done or was ended.
pub(super) fn drain(
    scheduler: Arc<Scheduler>,
    target: DrainTarget,
    first: DrainProgress,
) -> BoxStream<'static, Result<DrainStatus, Status>> {
    async_stream::try_stream! {
        let mut fleet = scheduler.watch_fleet();
        let mut last = first;
        yield wire::drain(&last);
        while last.state != DrainState::Drained {
            if fleet.changed().await.is_err() {
                return;
            }
            let view = Arc::clone(&fleet.borrow_and_update());
            let Some(now) = find(&view, &target) else { return };
            if now != last {
                last = now;
                yield wire::drain(&last);
            }
        }
    }
    .boxed()
}
