//! An S3 server of the tests' own: s3s over a folder, behind a layer that counts requests and fails them when told to.
//!
//! With `S3_ENDPOINT`, `S3_ACCESS_KEY` and `S3_SECRET_KEY` in the environment, the suite runs against that server
//! instead; each test makes a bucket of its own there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use grid_cas::SharedStore;
use grid_cas::backends::s3::{S3, S3Options};
use grid_cas::conformance::Subject;
use grid_cas::form::Form;
use grid_cas::s3_client::layout::Layout;
use grid_cas::s3_client::{S3Connection, S3ConnectionOptions, S3Credentials, TimeLimit};
use grid_core::{Digest, DigestFunction};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const ACCESS: &str = "AKIAGRID";
pub(crate) const SECRET: &str = "sesame-open";

/// What the layer before the server does and saw.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// How many requests are still to be answered by `503 SlowDown`.
    pub(crate) throttle: AtomicU32,
    /// Method and path of each request that reached the server.
    pub(crate) seen: Mutex<Vec<(Method, String)>>,
    /// Whether what is posted must come with its `Content-MD5`.
    pub(crate) wants_md5: AtomicBool,
    /// Whether connections are closed as they come.
    pub(crate) away: AtomicBool,
}

impl State {
    pub(crate) fn count(&self, method: &Method) -> usize {
        self.seen.lock().iter().filter(|(seen, _)| seen == method).count()
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) state: Arc<State>,
    pub(crate) folder: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = s3s_fs::FileSystem::new(folder.path()).unwrap();
        Self::serve(files, folder).await
    }

    /// A server over any implementation of the protocol.
    pub(crate) async fn serve(files: impl s3s::S3, folder: tempfile::TempDir) -> Self {
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS, SECRET));
        let (service, state) = (service.build(), Arc::new(State::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, state) = (service.clone(), Arc::clone(&seen));
                let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (service, state) = (service.clone(), Arc::clone(&state));
                    async move { Ok::<_, Infallible>(answer(&service, &state, request).await) }
                });
                if seen.away.load(Ordering::SeqCst) {
                    continue;
                }
                let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    connection.serve_connection(TokioIo::new(socket), answer).await.ok();
                });
            }
        });
        Self { endpoint, state, folder, task }
    }

    /// Makes a bucket.
    pub(crate) fn bucket(&self, name: &str) {
        std::fs::create_dir(self.folder.path().join(name)).unwrap();
    }

    pub(crate) fn options(&self) -> S3ConnectionOptions {
        options(&self.endpoint, ACCESS, SECRET)
    }

    pub(crate) async fn connection(&self) -> Arc<S3Connection> {
        Arc::new(S3Connection::new(self.options()).await.unwrap())
    }

    pub(crate) async fn store(&self, layout: Layout) -> SharedStore {
        store(self.options(), layout).await
    }
}

pub(crate) async fn store(options: S3ConnectionOptions, layout: Layout) -> SharedStore {
    let connection = Arc::new(S3Connection::new(options).await.unwrap());
    Arc::new(S3::new(connection, S3Options { layout, versioned_deletes: false, form: Form::Plain }))
}

async fn answer(
    service: &s3s::service::S3Service,
    state: &State,
    request: Request<hyper::body::Incoming>,
) -> Response<s3s::Body> {
    let counted = state.throttle.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if counted.is_ok() {
        let text = "<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>";
        let refused = Response::builder().status(503).header("retry-after", "7");
        return refused.body(s3s::Body::from(text.to_owned())).unwrap();
    }
    state.seen.lock().push((request.method().clone(), request.uri().path().to_owned()));
    if request.method() == Method::POST && state.wants_md5.load(Ordering::SeqCst) {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let sum = BASE64_STANDARD.encode(Digest::of(DigestFunction::Md5, &body).hash_bytes());
        if head.headers.get("content-md5").is_none_or(|given| given.as_bytes() != sum.as_bytes()) {
            let text = "<Error><Code>InvalidRequest</Code><Message>Missing Content-MD5</Message></Error>";
            return Response::builder().status(400).body(s3s::Body::from(text.to_owned())).unwrap();
        }
        return service.call(Request::from_parts(head, s3s::Body::from(body))).await.unwrap();
    }
    service.call(request.map(s3s::Body::from)).await.unwrap()
}

pub(crate) fn options(endpoint: &str, access: &str, secret: &str) -> S3ConnectionOptions {
    S3ConnectionOptions {
        endpoint: endpoint.to_owned(),
        credentials: S3Credentials::Keys { access: access.into(), secret: secret.into() },
        reads: TimeLimit::default(),
        writes: TimeLimit::default(),
        name: format!("storages[0] !s3-storage at {endpoint}").into(),
    }
}

/// Packed blobs in a bucket.
pub(crate) async fn packed(server: &Server) -> S3 {
    let options = S3Options { layout: Layout::plain("main"), versioned_deletes: false, form: Form::Packed };
    S3::new(server.connection().await, options)
}

/// A store in an empty bucket: of the server that the environment names, else of one of its own.
pub(crate) async fn subject(versioned_deletes: bool) -> Subject {
    let set = |name: &str| std::env::var(name).ok();
    let Some(endpoint) = set("S3_ENDPOINT") else {
        let server = Server::start().await;
        server.bucket("main");
        return Subject::new(server.store(Layout::plain("main")).await).keeping(server);
    };
    let (access, secret) = (set("S3_ACCESS_KEY").unwrap(), set("S3_SECRET_KEY").unwrap());
    let connection = Arc::new(S3Connection::new(options(&endpoint, &access, &secret)).await.unwrap());
    let bucket = format!("grid-test-{}", uuid::Uuid::new_v4());
    connection.client().create_bucket().bucket(&bucket).send().await.unwrap();
    let options = S3Options { layout: Layout::plain(&bucket), versioned_deletes, form: Form::Plain };
    Subject::new(Arc::new(S3::new(connection, options)))
}
