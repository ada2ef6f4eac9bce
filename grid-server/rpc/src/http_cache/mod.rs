//! Bazel's HTTP cache (`--remote_cache=http://…`): `GET`, `HEAD` and `PUT` of `/[INSTANCE/]ac/HASH` and
//! `/[INSTANCE/]cas/HASH`, over the same blobs as the gRPC services.
//!
//! The protocol names a blob without its size, which is a part of its name everywhere else: [`sizes`] keeps it, and
//! [`Shared`] has results found whichever way they came. Callers and what they may do are judged as those of
//! the gRPC methods that do the same. Nothing here listens.

mod answer;
mod lent;
mod path;
mod shared;
mod sizes;

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use grid_cache::SharedCache;
use grid_cas::{ByteRange, SharedStore, StoreError};
use grid_core::Digest;
use grid_proto::reapi::ActionResult;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;
use tonic::body::Body;
use tower::Service;

use self::answer::{content, empty, failure};
use self::lent::Lent;
use self::path::{Kind, Path};
pub use self::shared::Shared;
use crate::auth::AuthLayer;
use crate::{Instances, RpcError};

/// The largest result that is taken, in bytes.
const MAX_RESULT: usize = 16 << 20;

/// How many bytes are taken of a request that is refused.
const MAX_REFUSED: u64 = 16 << 20;

/// What the cache needs of an instance.
#[derive(Clone, Debug)]
pub struct HttpCacheInstance {
    /// Its blobs.
    pub store: SharedStore,
    /// Its results.
    pub cache: SharedCache,
    /// Whether blobs are refused.
    pub read_only: bool,
    /// The largest blob that the instance takes, in bytes.
    pub max_blob_bytes: Option<u64>,
}

/// The service.
#[derive(Clone, Debug)]
pub struct HttpCache {
    instances: Instances<HttpCacheInstance>,
    authorization: AuthLayer,
}

impl HttpCache {
    /// A service over the instances that have blobs and results.
    #[must_use]
    pub const fn new(instances: Instances<HttpCacheInstance>, authorization: AuthLayer) -> Self {
        Self { instances, authorization }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        answer::basic_to_bearer(&mut parts.headers);
        if parts.uri.path() == "/status" && parts.method == Method::GET {
            return answer::status();
        }
        let body = Lent::new(body);
        let rest = body.again();
        let answered = match Path::parse(parts.uri.path(), &parts.method) {
            Ok(path) => {
                let method = path.rpc;
                let call = self.call(path, &parts, body);
                self.authorization
                    .as_method(method, &parts, call)
                    .await
                    .unwrap_or_else(|error| Err(error.into()))
            }
            Err(error) => Err(error.into()),
        };
        // Who still sends would find the connection broken, and no answer.
        rest.drain(if answered.is_ok() { u64::MAX } else { MAX_REFUSED }).await;
        answered.unwrap_or_else(|error| failure(&error))
    }

    async fn call(&self, path: Path, request: &Parts, body: Lent) -> Result<Response<Body>, Failure> {
        let encoding = request.headers.get(http::header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(Failure::Encoded);
        }
        let instance = self.instances.get(&path.instance).await?;
        let reads_body = request.method != Method::HEAD;
        match (path.kind, request.method == Method::PUT) {
            (Kind::Result, false) => instance.result(&path.hash, reads_body).await,
            (Kind::Result, true) => instance.record(&path.hash, body).await,
            (Kind::Blob, false) => instance.blob(&path.hash, reads_body).await,
            (Kind::Blob, true) => instance.store(&path.hash, body).await,
        }
    }
}

/// The answer to a request that is refused before it gets to the cache.
#[must_use]
pub fn refusal(error: &RpcError) -> Response<Body> {
    failure(&Failure::Rpc(error.clone()))
}

impl Service<Request<Body>> for HttpCache {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cache(#[from] grid_cache::CacheError),
    /// The client must say how long its content is.
    #[error("say the content's length in `content-length`")]
    Length,
    /// The content is encoded in a way that the protocol doesn't have.
    #[error("send the content as it is, without `content-encoding`")]
    Encoded,
}

impl HttpCacheInstance {
    async fn result(&self, hash: &str, reads_body: bool) -> Result<Response<Body>, Failure> {
        let result = match self.cache.get(&sizes::result_key(&sizes::digest(hash, 0)?)).await? {
            Some(result) => result,
            None => self.by_grpc(hash).await?,
        };
        let encoded = Bytes::from(result.encode_to_vec());
        Ok(if reads_body { content(encoded) } else { empty(StatusCode::OK, Some(encoded.len() as u64)) })
    }

    async fn record(&self, hash: &str, body: Lent) -> Result<Response<Body>, Failure> {
        let malformed = |problem: String| RpcError::field("action result", problem);
        let read = Limited::new(body, MAX_RESULT).collect().await;
        let encoded = read.map_err(|error| malformed(error.to_string()))?.to_bytes();
        let result = ActionResult::decode(encoded).map_err(|error| malformed(error.to_string()))?;
        self.cache.update(&sizes::result_key(&sizes::digest(hash, 0)?), &result).await?;
        Ok(empty(StatusCode::OK, None))
    }

    /// A result that came by gRPC. What it names is found by hash from then on.
    async fn by_grpc(&self, hash: &str) -> Result<ActionResult, Failure> {
        let missing = || RpcError::NotFound(format!("result of action {hash}"));
        let action = sizes::find(&self.cache, hash).await?.ok_or_else(missing)?;
        let result = self.cache.get(&action).await?.ok_or_else(missing)?;
        sizes::keep_named(&self.cache, &self.store, &action, &result).await;
        Ok(result)
    }

    async fn blob(&self, hash: &str, reads_body: bool) -> Result<Response<Body>, Failure> {
        let digest = self.known(hash).await?;
        if !reads_body {
            let missing = self.store.find_missing(&[digest]).await?;
            return match missing.first() {
                None => Ok(empty(StatusCode::OK, Some(digest.size()))),
                Some(_) => Err(StoreError::NotFound(digest).into()),
            };
        }
        let range = ByteRange { offset: 0, limit: None };
        let stream = self.store.read(&digest, range).await?;
        Ok(answer::stream(digest.size(), stream))
    }

    async fn known(&self, hash: &str) -> Result<Digest, Failure> {
        let found = sizes::find(&self.cache, hash).await?;
        found.ok_or_else(|| RpcError::NotFound(format!("blob {hash}")).into())
    }

    async fn store(&self, hash: &str, body: Lent) -> Result<Response<Body>, Failure> {
        if self.read_only {
            return Err(StoreError::ReadOnly.into());
        }
        let size = body.size_hint().exact().ok_or(Failure::Length)?;
        let digest = sizes::digest(hash, size)?;
        if let Some(limit) = self.max_blob_bytes.filter(|limit| size > *limit) {
            return Err(StoreError::TooLarge { digest, limit, backend: "instance".into() }.into());
        }
        let interrupted = |error: tonic::Status| StoreError::Interrupted(error.to_string().into());
        let content = body.into_data_stream().map_err(interrupted);
        self.store.write(&digest, content.boxed()).await?;
        sizes::keep(&self.cache, &digest).await?;
        Ok(empty(StatusCode::OK, None))
    }
}
