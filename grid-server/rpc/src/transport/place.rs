//! The place of a call among those that work at once, as far as services have to know of it.
//!
//! A server that bounds how many calls work gives each a [`Seat`]. Who waits for somebody else, perhaps for minutes, does
//! so without it: [`away`] comes back afterwards, [`leave`] is for those who have little left to do then. In a server
//! that bounds nothing both do nothing.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use futures::poll;

use crate::RpcError;

/// What a call sits on while it works.
#[async_trait]
pub trait Seat: Debug + Send + Sync {
    /// Gives the place to the next call; nothing where it was given up before.
    fn leave(&self);

    /// Waits for a place again.
    ///
    /// # Errors
    /// [`RpcError::Limit`] where there is none for too long.
    async fn come_back(&self) -> Result<(), RpcError>;
}

tokio::task_local! {
    static SEAT: Arc<dyn Seat>;
}

/// Serves a call that has a seat.
pub async fn seated<F: Future>(seat: Arc<dyn Seat>, call: F) -> F::Output {
    SEAT.scope(seat, call).await
}

/// Gives up the place of the call that this task serves, for good.
pub(crate) fn leave() {
    // Where nothing is bounded there is nothing to give up.
    let _ = SEAT.try_with(|seat| seat.leave());
}

/// Waits without a place, and then for one. What is there already is taken without leaving.
///
/// # Errors
/// [`RpcError::Limit`] where there is no place afterwards.
pub(crate) async fn away<T>(awaited: impl Future<Output = T>) -> Result<T, RpcError> {
    let mut awaited = pin!(awaited);
    if let Poll::Ready(there) = poll!(awaited.as_mut()) {
        return Ok(there);
    }
    let Ok(seat) = SEAT.try_with(Arc::clone) else { return Ok(awaited.await) };
    seat.leave();
    let came = awaited.await;
    seat.come_back().await?;
    Ok(came)
}
