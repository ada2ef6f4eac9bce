//! [`Seat`]: the place of one call, which it may give up while it waits for somebody else.

use async_trait::async_trait;
use grid_rpc::RpcError;
use grid_rpc::transport::place;
use parking_lot::Mutex;

use super::gate::{Client, Gate, Place};

/// A call's place, and the way back to one.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Gate,
    client: Client,
    place: Mutex<Option<Place>>,
}

impl Seat {
    pub(super) const fn new(gate: Gate, client: Client, place: Place) -> Self {
        Self { gate, client, place: Mutex::new(Some(place)) }
    }

    /// What the call still holds when its answer begins.
    pub(super) fn take(&self) -> Option<Place> {
        self.place.lock().take()
    }
}

#[async_trait]
impl place::Seat for Seat {
    fn leave(&self) {
        // Dropped outside of the lock: the next call goes on.
        drop(self.take());
    }

    async fn come_back(&self) -> Result<(), RpcError> {
        let place = self.gate.enter(self.client).await?;
        *self.place.lock() = Some(place);
        Ok(())
    }
}
