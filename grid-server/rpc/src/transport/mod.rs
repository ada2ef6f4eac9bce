//! How a server speaks HTTP/2: the settings that decide latency, throughput and memory, in one place.
//!
//! `grid-server` binds addresses, loads certificates and adds the services; [`serve`] speaks to what they accept, [`lanes`]
//! have connections take turns, [`around`] is the shape of what stands before calls, [`place`] is what calls hold while they
//! work, and [`deadline`] keeps to the clients' own deadlines. Nothing here listens.

pub mod around;
mod connections;
pub mod deadline;
mod greeting;
mod lanes;
pub mod place;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;

pub use connections::serve;
use lanes::Lanes;

/// The largest message that is taken: a full batch of blobs with its digests, or 100,000 digests.
pub const MAX_RECEIVED_MESSAGE: usize = 16 << 20;

/// The most blob bytes that one batch call may carry. Clients take messages of 4 MiB unless told otherwise, and
/// an answer holds each blob's digest and status too.
pub const MAX_BATCH_BYTES: u64 = (4 << 20) - (256 << 10);

/// The most bytes of headers that a call may have.
const MAX_HEADERS: u32 = 64 << 10;

/// The connection that a call came by: a number that no other has. Requests carry it among their extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(u64);

impl Connection {
    /// One that is none of those before it.
    #[must_use]
    pub fn next() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Self(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The HTTP/2 settings of a listener.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// Whether HTTP/1.1 is spoken beside HTTP/2.
    pub http1: bool,
    /// How many bytes a client may send ahead of a handler, for each stream.
    pub stream_window: u32,
    /// The same for all streams of a connection together.
    pub connection_window: u32,
    /// The largest HTTP/2 frame that clients may send.
    pub max_frame_size: u32,
    /// How many bytes of answers may wait for each stream's reader, besides one message.
    pub send_buffer: usize,
    /// How many calls one connection may have in flight.
    pub max_concurrent_streams: u32,
    /// How often an idle connection is asked whether its peer is still there.
    pub keepalive_interval: Duration,
    /// How long the peer may take to answer that.
    pub keepalive_timeout: Duration,
    /// How long a client may take to begin to speak.
    pub greeting: Duration,
    /// When a connection is asked to go, so that clients find new replicas; `None` for never. Each connection's age is
    /// up to a tenth more or less, so that clients that came together don't go together.
    pub max_connection_age: Option<Duration>,
    /// How long calls in flight may go on after that.
    pub max_connection_age_grace: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            http1: false,
            stream_window: 1 << 20,
            // Calls that wait for their turn must not shut off those that have it.
            connection_window: 16 << 20,
            max_frame_size: 256 << 10,
            send_buffer: 128 << 10,
            max_concurrent_streams: 1_000,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            greeting: Duration::from_secs(20),
            max_connection_age: Some(Duration::from_secs(60 * 60)),
            max_connection_age_grace: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl TransportOptions {
    /// HTTP with these settings, for one connection.
    fn http(&self) -> Builder<Lanes> {
        let mut builder = Builder::new(Lanes::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.greeting);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame_size)
            .max_concurrent_streams(self.max_concurrent_streams)
            .max_send_buf_size(self.send_buffer)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .max_header_list_size(MAX_HEADERS);
        if self.http1 { builder } else { builder.http2_only() }
    }
}

fn spread(age: Duration, jitter: f64) -> Duration {
    age.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_by_a_tenth_each_way() {
        let age = Duration::from_secs(100);
        assert_eq!(spread(age, 0.0), Duration::from_secs(90));
        assert_eq!(spread(age, 1.0), Duration::from_secs(110));
        assert_eq!(spread(age, 7.0), Duration::from_secs(110));
    }
}
