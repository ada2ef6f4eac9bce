//! [`Places`]: how many connections there are at most, over all addresses (`maximum-connections`).
//!
//! A connection holds its place from before it is taken until it is closed. While all are held nobody is accepted:
//! newcomers wait in the kernel's queue, and the process keeps the files that its work needs.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use grid_telemetry::Metrics;
use grid_telemetry::connections::{Connections, Open};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often it is said that all places are taken.
const TOLD: Duration = Duration::from_secs(60);

/// The places of a process.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    most: usize,
    connections: Connections,
    told: Arc<Mutex<Option<Instant>>>,
}

/// A place that a connection has; dropped when it is closed.
#[derive(Debug)]
pub(crate) struct Taken {
    _place: OwnedSemaphorePermit,
    _open: Open,
}

impl Places {
    /// As many places as are asked for, as far as the process may open files.
    pub(crate) fn new(asked: usize, metrics: &Metrics) -> Self {
        let files = open_files();
        let most = asked.min(bound(files)).min(Semaphore::MAX_PERMITS);
        if most < asked {
            tracing::warn!(
                asked,
                most,
                files,
                "fewer connections than maximum-connections: the process may open too few files (ulimit -n)"
            );
        }
        let free = Arc::new(Semaphore::new(most));
        Self { free, most, connections: Connections::new(metrics, most), told: Arc::default() }
    }

    /// A place, once there is one.
    async fn free(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return place;
        }
        self.tell();
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(place) => place,
            // Places are never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives a place to a connection.
    fn take(&self, place: OwnedSemaphorePermit) -> Taken {
        Taken { _place: place, _open: self.connections.open() }
    }

    fn tell(&self) {
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() > TOLD) {
            *told = Some(Instant::now());
            tracing::warn!(
                connections = self.most,
                "all connections are taken (maximum-connections): new ones wait until others close"
            );
        }
    }

    /// Connections over TCP as they come, each with its place.
    pub(crate) fn tcp(self, listener: TcpListener) -> impl Stream<Item = io::Result<(TcpStream, Taken)>> {
        async_stream::stream! {
            loop {
                let place = self.free().await;
                yield listener.accept().await.map(|(stream, _)| {
                    drop(stream.set_nodelay(true));
                    (stream, self.take(place))
                });
            }
        }
    }

    /// Connections over a UNIX socket as they come, each with its place.
    pub(crate) fn unix(self, listener: UnixListener) -> impl Stream<Item = io::Result<(UnixStream, Taken)>> {
        async_stream::stream! {
            loop {
                let place = self.free().await;
                yield listener.accept().await.map(|(stream, _)| (stream, self.take(place)));
            }
        }
    }
}

/// How many connections a process may have that may open so many files: a quarter is left to its work.
const fn bound(files: usize) -> usize {
    let bound = files / 4 * 3;
    if bound == 0 { 1 } else { bound }
}

/// How many files the process may open, once it has asked for all that it can have.
fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[test]
    fn a_quarter_of_the_files_is_for_other_things() {
        assert_eq!((bound(1024), bound(3), bound(usize::MAX) < usize::MAX), (768, 1, true));
    }

    #[tokio::test]
    async fn whoever_finds_no_place_waits_until_one_is_left() {
        let metrics = Metrics::default();
        let places = Places::new(2, &metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let mut accepted = std::pin::pin!(places.tcp(listener));
        let first = accepted.next().await.unwrap().unwrap();
        let _second = accepted.next().await.unwrap().unwrap();
        let mut third = accepted.next();
        assert!(futures::poll!(&mut third).is_pending(), "both places are taken");
        assert!(metrics.encode().contains("\ngrid_connections 2\n"));
        drop(first);
        assert!(third.await.unwrap().is_ok());
    }
}
