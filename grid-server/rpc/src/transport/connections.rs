//! [`serve`]: connections from their first byte to their last.
//!
//! A connection that says nothing is closed. One that has grown old is asked to go, by HTTP/2's GOAWAY: its calls finish,
//! and its client makes new ones on a new connection, which may lead to another replica. One whose peer doesn't answer a
//! ping is closed, and its calls end.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::{Service, ServiceExt as _};

use super::greeting::Greeting;
use super::lanes::Lanes;
use super::{Connection, TransportOptions, spread};

/// What a connection needs to know.
struct Rules {
    http: Builder<Lanes>,
    greeting: Duration,
    age: Option<Duration>,
    grace: Duration,
    ending: CancellationToken,
}

/// Serves connections, each with what stands for its place and is dropped when it is closed, until `ending` is cancelled; then no more are taken, and this returns once the calls of those that
/// there are have ended. `jitter` gives numbers from 0 to 1 that spread the connections' ages.
pub async fn serve<IO, P, S, B>(
    options: &TransportOptions,
    connections: impl Stream<Item = io::Result<(IO, P)>>,
    service: S,
    ending: CancellationToken,
    jitter: impl Fn() -> f64,
) where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    P: Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let tasks = TaskTracker::new();
    let mut connections = pin!(connections);
    loop {
        let next = tokio::select! {
            next = connections.next() => next,
            () = ending.cancelled() => None,
        };
        match next {
            None => break,
            Some(Ok((io, place))) => {
                let rules = Rules {
                    http: options.http(),
                    greeting: options.greeting,
                    age: options.max_connection_age.map(|age| spread(age, jitter())),
                    grace: options.max_connection_age_grace,
                    ending: ending.clone(),
                };
                let spoken = speak(io, service.clone(), rules);
                tasks.spawn(async move {
                    spoken.await;
                    drop(place);
                });
            }
            // Out of file descriptors, mostly: others must close first.
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection can't be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn speak<IO, S, B>(io: IO, service: S, rules: Rules)
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let peer = io.connect_info();
    let number = Connection::next();
    let spoken = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Greeting::new(io, Arc::clone(&spoken)));
    let calls = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(number);
        service.clone().oneshot(request.map(Body::new))
    });
    let mut connection = pin!(rules.http.serve_connection(io, calls));
    let mut greeting = pin!(sleep(rules.greeting));
    let mut age = pin!(sleep(rules.age.unwrap_or(Duration::MAX)));
    let mut grace = pin!(sleep(Duration::MAX));
    let (mut greeted, mut leaving) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = &mut greeting, if !greeted => {
                greeted = true;
                if !spoken.load(Ordering::Relaxed) {
                    return tracing::debug!("a connection said nothing and was closed");
                }
            }
            () = &mut age, if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
                grace.set(sleep(rules.grace));
            }
            () = rules.ending.cancelled(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut grace => return tracing::debug!("calls outlasted their connection's age and were cut off"),
        }
    }
}
