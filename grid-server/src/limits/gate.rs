//! [`Gate`]: the places of one class of calls, and the queue before them.
//!
//! Who finds no place waits, for a bounded time and in a bounded queue. A place that is left goes to the next connection in
//! turn, whatever the others have queued, and among those whom a proxy sends over one connection to the next of them: a client
//! with one call doesn't wait for all of another's.

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
    /// Those that wait, by connection, by whom it is of those behind it, and in the order in which they came.
    waiting: Turns<Connection, Turns<Behind, BTreeMap<u64, oneshot::Sender<Place>>>>,
    count: usize,
    /// The number of the next call that waits.
    number: u64,
}

/// Of those who come by one connection, one: a number that the same always has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Behind(pub(crate) u64);

/// Who calls, as far as turns are concerned. What a client says of whom it stands for divides no more than the turns of its own
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) behind: Behind,
}

/// Those that take turns, and who had the last one.
#[derive(Debug, Default)]
struct Turns<K, V> {
    waiting: BTreeMap<K, V>,
    last: K,
}

impl<K: Copy + Ord, V> Turns<K, V> {
    /// Whose turn it is.
    fn next(&mut self) -> Option<K> {
        let mut after = self.waiting.range((Excluded(self.last), Unbounded));
        let (&next, _) = after.next().or_else(|| self.waiting.iter().next())?;
        self.last = next;
        Some(next)
    }
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
    client: Client,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What it may have been sent meanwhile is dropped with its receiver, and goes on to the next.
        let _waiting = self.gate.state.lock().take_out(self.client, self.number);
    }
}

impl Gate {
    /// So many places, and so much room before them. `full` says what there are too many of.
    pub(crate) fn new(places: usize, room: usize, full: &'static str) -> Self {
        let state = State { free: places, room, waiting: Turns::default(), count: 0, number: 0 };
        Self { full, state: Arc::new(Mutex::new(state)) }
    }

    /// A place, once there is one for this client.
    pub(crate) async fn enter(&self, client: Client) -> Result<Place, RpcError> {
        let (number, given) = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Place(Some(self.clone())));
            }
            state.put_in(client).ok_or_else(|| self.refusal())?
        };
        let _turn = Turn { gate: self, client, number };
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
    fn put_in(&mut self, client: Client) -> Option<(u64, oneshot::Receiver<Place>)> {
        if self.count >= self.room {
            return None;
        }
        let (give, given) = oneshot::channel();
        let number = self.number;
        self.number += 1;
        self.count += 1;
        let connection = self.waiting.waiting.entry(client.connection).or_default();
        connection.waiting.entry(client.behind).or_default().insert(number, give);
        Some((number, given))
    }

    fn take_out(&mut self, client: Client, number: u64) -> Option<oneshot::Sender<Place>> {
        let connection = self.waiting.waiting.get_mut(&client.connection)?;
        let calls = connection.waiting.get_mut(&client.behind)?;
        let call = calls.remove(&number)?;
        if calls.is_empty() {
            connection.waiting.remove(&client.behind);
        }
        if connection.waiting.is_empty() {
            self.waiting.waiting.remove(&client.connection);
        }
        self.count -= 1;
        Some(call)
    }

    /// The first call of the client whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let connection = self.waiting.next()?;
        let those = self.waiting.waiting.get_mut(&connection)?;
        let behind = those.next()?;
        let number = *those.waiting.get(&behind)?.keys().next()?;
        self.take_out(Client { connection, behind }, number)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn client() -> Client {
        Client { connection: Connection::next(), behind: Behind::default() }
    }

    #[tokio::test]
    async fn those_behind_one_connection_take_the_turns_of_that_connection() {
        let gate = Gate::new(1, 100, "calls");
        let (proxy, direct) = (client(), client());
        let [busy, modest] = [1, 2].map(|number| Client { behind: Behind(number), ..proxy });
        let held = gate.enter(direct).await.unwrap();
        let callers =
            [(busy, "busy"), (busy, "busy"), (busy, "busy"), (modest, "modest"), (direct, "direct")];
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = tokio::task::JoinSet::new();
        for (client, name) in callers {
            let (gate, tell) = (gate.clone(), tell.clone());
            waiting.spawn(async move {
                let _place = gate.enter(client).await.unwrap();
                tell.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(held);
        waiting.join_all().await;
        let order: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(order, ["busy", "direct", "modest", "busy", "busy"]);
    }

    #[tokio::test]
    async fn connections_take_turns_whatever_each_has_queued() {
        let gate = Gate::new(1, 100, "calls");
        let held = gate.enter(client()).await.unwrap();
        let (busy, modest) = (client(), client());
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
        let client = client();
        let held = gate.enter(client).await.unwrap();
        let mut queue: Vec<_> = (0..2).map(|_| Box::pin(gate.enter(client))).collect();
        assert!(queue.iter_mut().all(|call| call.now_or_never().is_none()));
        assert!(gate.enter(client).await.is_err(), "there is no room");
        drop(queue.remove(0));
        let mut last = Box::pin(gate.enter(client));
        assert!((&mut last).now_or_never().is_none(), "there is room again");
        // The place is given to the one that waits, who goes away without having looked.
        drop(held);
        drop(queue);
        let place = last.now_or_never().expect("it is passed on").unwrap();
        drop(place);
        assert!(gate.enter(client).now_or_never().is_some_and(|place| place.is_ok()));
    }
}
