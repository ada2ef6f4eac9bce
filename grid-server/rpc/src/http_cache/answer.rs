//! Answers over plain HTTP: contents, and what a failure looks like.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::TryStreamExt as _;
use grid_cas::ByteStream;
use grid_core::{Coded, ErrorCode};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use serde_json::json;
use tonic::body::Body;

use super::Failure;

/// That the cache is there, in the fields that bazel-remote has for it. How full it is stands in `/metrics`.
pub(super) fn status() -> Response<Body> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let told = json!({ "ServerTime": now, "GitTags": env!("CARGO_PKG_VERSION") });
    let mut response = Response::new(Body::new(Full::new(Bytes::from(format!("{told}\n")))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Bytes that are there.
pub(super) fn content(bytes: Bytes) -> Response<Body> {
    typed(Response::new(Body::new(Full::new(bytes))))
}

/// Bytes that come.
pub(super) fn stream(size: u64, stream: ByteStream) -> Response<Body> {
    let mut response = typed(Response::new(Body::new(StreamBody::new(stream.map_ok(Frame::data)))));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    response
}

fn typed(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// No content; for `HEAD`, of the length that `GET` would give.
pub(super) fn empty(status: StatusCode, length: Option<u64>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// What a failure looks like: its status, and a line for people.
pub(super) fn failure(failure: &Failure) -> Response<Body> {
    let (status, message, retry) = match failure {
        Failure::Rpc(error) => told(error),
        Failure::Store(error) => told(error),
        Failure::Cache(error) => told(error),
        Failure::Length => (StatusCode::LENGTH_REQUIRED, failure.to_string(), None),
        Failure::Encoded => (StatusCode::UNSUPPORTED_MEDIA_TYPE, failure.to_string(), None),
    };
    let mut response = Response::new(Body::new(Full::new(Bytes::from(format!("{message}\n")))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic realm=\"grid\""));
    }
    if let Some(seconds) = retry {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn told<E: Coded>(error: &E) -> (StatusCode, String, Option<u64>) {
    // Logs what only an operator can mend, as for every call.
    let message = crate::to_status(error).message().to_owned();
    let status = match error.code() {
        ErrorCode::InvalidArgument | ErrorCode::OutOfRange => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists | ErrorCode::Aborted => StatusCode::CONFLICT,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        // What passes by itself is tried again by Bazel where it is a 503, and a full disk is not.
        ErrorCode::ResourceExhausted if error.retry_after().is_some() => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        ErrorCode::Unimplemented => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded | ErrorCode::Cancelled => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::DataLoss | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let retry = error.retry_after().map(|after| after.as_secs().max(1));
    (status, message, retry)
}

/// Bazel puts the user and password of an URL into `Basic`: the password is then the token.
pub(super) fn basic_to_bearer(headers: &mut HeaderMap) {
    let token = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let basic = scheme.eq_ignore_ascii_case("basic");
        let decoded = basic.then(|| STANDARD.decode(encoded.trim()).ok()).flatten()?;
        let text = String::from_utf8(decoded).ok()?;
        let (_, password) = text.split_once(':')?;
        HeaderValue::from_str(&format!("Bearer {password}")).ok()
    });
    if let Some(mut token) = token {
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_apart_from_what_does_not() {
        let limit = |retry_after| {
            let (message, subject) = (String::new(), String::new());
            failure(&Failure::Rpc(crate::RpcError::Limit { message, subject, retry_after }))
        };
        let busy = limit(Some(std::time::Duration::from_secs(7)));
        assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.headers()[RETRY_AFTER], "7");
        let full = limit(None);
        assert_eq!(full.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert!(!full.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_password_is_a_token() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, text.parse().unwrap());
            basic_to_bearer(&mut headers);
            headers[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(after("Basic dXNlcjpwYTpzcw=="), "Bearer pa:ss");
        for other in ["Bearer x", "Basic %%%", "Basic dXNlcg==", "x"] {
            assert_eq!(after(other), other);
        }
    }
}
