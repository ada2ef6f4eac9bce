//! [`CallSpans`]: a span around each call, so that every line that is logged within tells which build, action and operation
//! it is about.
//!
//! The ids are the client's own: REAPI's `RequestMetadata` and the W3C trace of `traceparent`. They are text from outside:
//! what is no id is left out, and what is long is cut.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use grid_core::TraceParent;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::metadata::MetadataMap;
use tower::{Layer, Service};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::metadata::request_metadata;

/// The longest id that is logged, in characters.
const MAX_ID: usize = 100;

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallSpans;

impl<S> Layer<S> for CallSpans {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Spanned<S> {
        Spanned { inner }
    }
}

/// A service whose calls have spans.
#[derive(Clone, Debug)]
pub struct Spanned<S> {
    inner: S,
}

impl<S, Req, Res> Service<Request<Req>> for Spanned<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
{
    type Response = Response<SpannedBody<Res>>;
    type Error = S::Error;
    type Future = SpannedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let span = span(request.uri().path(), request.headers());
        let inner = span.in_scope(|| self.inner.call(request));
        SpannedFuture { inner, span }
    }
}

/// Notes the operation that the call of this task is about.
pub(crate) fn note_operation(id: impl std::fmt::Display) {
    Span::current().record("operation", display(id));
}

fn span(path: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "call",
        method = shown(path),
        invocation = Empty,
        action = Empty,
        operation = Empty,
        target = Empty,
        trace = Empty
    );
    if span.is_disabled() {
        return span;
    }
    let record = |field: &str, text: &str| {
        if !text.is_empty() {
            span.record(field, shown(text));
        }
    };
    let parent = headers.get("traceparent").and_then(|parent| TraceParent::parse(parent.to_str().ok()?));
    if let Some(parent) = parent {
        span.record("trace", display(format_args!("{:032x}", parent.trace)));
    }
    // Most calls that are not a build's have no metadata, and are spared the copy.
    if headers.contains_key(crate::metadata::REQUEST_METADATA)
        && let Some(sent) = request_metadata(&MetadataMap::from_headers(headers.clone()))
    {
        record("invocation", &sent.tool_invocation_id);
        record("action", &sent.action_id);
        record("target", &sent.target_id);
    }
    span
}

/// The beginning of a text without what would break a line.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_ID).collect()
}

pin_project! {
    /// A call whose answer has not begun.
    pub struct SpannedFuture<F> {
        #[pin]
        inner: F,
        span: Span,
    }
}

impl<F, Res, E> Future for SpannedFuture<F>
where
    F: Future<Output = Result<Response<Res>, E>>,
{
    type Output = Result<Response<SpannedBody<Res>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _within = this.span.enter();
        let answer = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(answer.map(|inner| SpannedBody { inner, span: this.span.clone() })))
    }
}

pin_project! {
    /// An answer within its call's span.
    pub struct SpannedBody<B> {
        #[pin]
        inner: B,
        span: Span,
    }
}

impl<B: Body> Body for SpannedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let _within = this.span.enter();
        this.inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_can_neither_break_lines_nor_fill_them() {
        assert_eq!(shown("a\nb\u{7}"), "ab");
        assert_eq!(shown(&"x".repeat(1_000)).len(), MAX_ID);
    }
}
