//! [`Place`]: where a bot waits, from its call to its answer.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Dispatcher, Wake};
use crate::assign::Slots;
use crate::ids::SessionId;

/// A bot's place among those that wait. Dropping it leaves.
#[derive(Debug)]
pub(in crate::service) struct Place<'a> {
    pub(super) dispatcher: &'a Dispatcher,
    pub(super) place: u64,
    pub(super) session: SessionId,
    pub(super) offered: Option<u64>,
    pub(super) woken: oneshot::Receiver<Wake>,
}

impl Place<'_> {
    /// The report has been worked on: from now on the bot can be given work.
    pub(in crate::service) fn offer(&mut self, mut slots: Slots, impatient: bool) {
        let state = &mut *self.dispatcher.state.lock();
        self.offered = Some(slots.session.calls);
        slots.localities =
            state.localities.get(&self.session).map(|l| l.iter().cloned().collect()).unwrap_or_default();
        if let Some(waiting) = state.waiting.get_mut(&self.place) {
            if slots.free == slots.session.capacity && slots.session.takes_work() {
                let session = slots.session.clone();
                state.idle.entry(session.id).or_insert_with(|| (session, Instant::now()));
            } else {
                state.idle.remove(&self.session);
            }
            waiting.offer = Some(slots);
            waiting.impatient = impatient;
            state.fresh_places.insert(self.place);
            self.dispatcher.work.notify_one();
        }
    }

    /// Waits to be woken.
    pub(in crate::service) async fn woken(&mut self) -> Wake {
        (&mut self.woken).await.unwrap_or(Wake::Resync)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.dispatcher.state.lock();
        state.waiting.remove(&self.place);
        if state.places.get(&self.session) == Some(&self.place) {
            state.places.remove(&self.session);
        }
        drop(state);
        if let (Ok(Wake::Granted(jobs, _)), Some(calls)) = (self.woken.try_recv(), self.offered) {
            self.dispatcher.give_back(self.session, calls, &jobs);
        }
    }
}
