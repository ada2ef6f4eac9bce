//! [`Gate`]: the places of one class of calls, and the queue before them.
//!
//! Who finds no place waits, for a bounded time and in a bounded queue. A place that is left goes to the next connection in
//! turn, whatever the others have queued: a client with one call doesn't wait for all of another's.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use grid_rpc::RpcError;
use grid_rpc::transport::Connection;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How long a call waits for its place.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places of one class.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// What is said to whom it lets wait in vain.
    full: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// How many calls may wait.
    room: usize,
    /// Those that wait, by connection and in the order in which they came.
    waiting: BTreeMap<Connection, BTreeMap<u64, oneshot::Sender<Place>>>,
    count: usize,
    /// The number of the next call that waits.
    number: u64,
    /// The connection that had the last turn.
    last: Connection,
}

/// A place among the calls that run; dropped, it goes to the next.
#[derive(Debug)]
pub(crate) struct Place(Option<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.leave();
        }
    }
}

/// A turn in the queue, which is given up when its client goes away.
struct Turn<'g> {
    gate: &'g Gate,
    connection: Connection,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What it may have been sent meanwhile is dropped with its receiver, and goes on to the next.
        let _waiting = self.gate.state.lock().take_out(self.connection, self.number);
    }
}

impl Gate {
    /// So many places, and so much room before them. `full` says what there are too many of.
    pub(crate) fn new(places: usize, room: usize, full: &'static str) -> Self {
        let state = State {
            free: places,
            room,
            waiting: BTreeMap::new(),
            count: 0,
            number: 0,
            last: Connection::default(),
        };
        Self { full, state: Arc::new(Mutex::new(state)) }
    }

    /// A place, once there is one for this connection.
    pub(crate) async fn enter(&self, connection: Connection) -> Result<Place, RpcError> {
        let (number, given) = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Place(Some(self.clone())));
            }
            state.put_in(connection).ok_or_else(|| self.refusal())?
        };
        let _turn = Turn { gate: self, connection, number };
        match tokio::time::timeout(PATIENCE, given).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> RpcError {
        RpcError::Limit {
            message: format!("the server has as many {} as it takes; call again", self.full),
            subject: "server".to_owned(),
            retry_after: Some(Duration::from_secs(5)),
        }
    }

    /// Gives a place that was left to the next.
    fn leave(self) {
        let mut place = Place(Some(self.clone()));
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.next();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else {
                place.0 = None;
                return;
            };
            // Whoever went away in this moment has not got it.
            match next.send(place) {
                Ok(()) => return,
                Err(back) => place = back,
            }
        }
    }
}

impl State {
    fn put_in(&mut self, connection: Connection) -> Option<(u64, oneshot::Receiver<Place>)> {
        if self.count >= self.room {
            return None;
        }
        let (give, given) = oneshot::channel();
        let number = self.number;
        self.number += 1;
        self.count += 1;
        self.waiting.entry(connection).or_default().insert(number, give);
        Some((number, given))
    }

    fn take_out(&mut self, connection: Connection, number: u64) -> Option<oneshot::Sender<Place>> {
        let calls = self.waiting.get_mut(&connection)?;
        let call = calls.remove(&number)?;
        if calls.is_empty() {
            self.waiting.remove(&connection);
        }
        self.count -= 1;
        Some(call)
    }

    /// The first call of the connection whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let mut after = self.waiting.range((Excluded(self.last), Unbounded));
        let (&connection, calls) = after.next().or_else(|| self.waiting.iter().next())?;
        let number = *calls.keys().next()?;
        self.last = connection;
        self.take_out(connection, number)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn connections_take_turns_whatever_each_has_queued() {
        let gate = Gate::new(1, 100, "calls");
        let held = gate.enter(Connection::next()).await.unwrap();
        let (busy, modest) = (Connection::next(), Connection::next());
        let mut queue: Vec<_> = (0..50).map(|_| Box::pin(gate.enter(busy))).collect();
        assert!(queue.iter_mut().all(|call| call.now_or_never().is_none()));
        let mut one = Box::pin(gate.enter(modest));
        assert!((&mut one).now_or_never().is_none());
        drop(held);
        let first = (&mut queue[0]).now_or_never().expect("it came first").unwrap();
        drop(first);
        let second = one.now_or_never().expect("the other connection's turn").unwrap();
        assert!((&mut queue[1]).now_or_never().is_none());
        drop(second);
        assert!((&mut queue[1]).now_or_never().is_some_and(|place| place.is_ok()));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_room_and_no_place_is_lost() {
        let gate = Gate::new(1, 2, "calls");
        let connection = Connection::next();
        let held = gate.enter(connection).await.unwrap();
        let mut queue: Vec<_> = (0..2).map(|_| Box::pin(gate.enter(connection))).collect();
        assert!(queue.iter_mut().all(|call| call.now_or_never().is_none()));
        assert!(gate.enter(connection).await.is_err(), "there is no room");
        drop(queue.remove(0));
        let mut last = Box::pin(gate.enter(connection));
        assert!((&mut last).now_or_never().is_none(), "there is room again");
        // The place is given to the one that waits, who goes away without having looked.
        drop(held);
        drop(queue);
        let place = last.now_or_never().expect("it is passed on").unwrap();
        drop(place);
        assert!(gate.enter(connection).now_or_never().is_some_and(|place| place.is_ok()));
    }
}
