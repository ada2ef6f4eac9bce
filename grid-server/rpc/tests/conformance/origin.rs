//! A web server that assets are fetched from.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;
use parking_lot::Mutex;

/// A web server, and what it has been asked.
#[derive(Clone)]
pub(crate) struct WebServer {
    /// Its address.
    pub(crate) address: SocketAddr,
    asked: Asked,
}

/// How often each path has been asked for, and with which credential last.
type Asked = Arc<Mutex<HashMap<String, (usize, Option<String>)>>>;

impl WebServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked::default();
        let router = Router::new().route("/{*path}", get(answer)).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked }
    }

    /// The URL of a path, by the server's address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The URL of a path, by a name that leads to this machine.
    pub(crate) fn named(&self, path: &str) -> String {
        format!("http://localhost:{}/{path}", self.address.port())
    }

    pub(crate) fn times(&self, path: &str) -> usize {
        self.asked.lock().get(path).map_or(0, |(times, _)| *times)
    }

    /// The credential that came with the last request for a path.
    pub(crate) fn credential(&self, path: &str) -> Option<String> {
        self.asked.lock().get(path).and_then(|(_, credential)| credential.clone())
    }
}

/// `text/X` is X; `status/N` that status; `later/N` 503 first; `large/N` N bytes; `to/…` leads to `http://…`.
async fn answer(State(asked): State<Asked>, Path(path): Path<String>, headers: HeaderMap) -> Response<Body> {
    let times = {
        let mut asked = asked.lock();
        let entry = asked.entry(path.clone()).or_default();
        let credential = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        *entry = (entry.0 + 1, credential);
        entry.0
    };
    let (kind, rest) = path.split_once('/').unwrap();
    let plain = |status: u16, body: Body| {
        Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body).unwrap()
    };
    match kind {
        "text" => plain(200, Body::from(rest.to_owned())),
        "status" => plain(rest.parse().unwrap(), Body::empty()),
        "later" if times == 1 => plain(503, Body::empty()),
        "later" => plain(200, Body::from(rest.to_owned())),
        "large" => plain(200, Body::from(Bytes::from(vec![b'x'; rest.parse().unwrap()]))),
        "chunked" => {
            let pieces =
                vec![Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; 1000])); rest.parse().unwrap()];
            plain(200, Body::from_stream(futures::stream::iter(pieces)))
        }
        "never" => plain(200, Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())),
        "to" => {
            let location = format!("http://{rest}");
            Response::builder().status(302).header("location", location).body(Body::empty()).unwrap()
        }
        "loop" => Response::builder().status(302).header("location", "/loop/x").body(Body::empty()).unwrap(),
        _ => plain(404, Body::empty()),
    }
}
