//! [`Lent`]: a request's content whose rest can be taken back from whoever stopped reading it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;

/// The content, for one reader after another.
pub(super) struct Lent(Arc<Mutex<Body>>);

impl Lent {
    /// Lends `body`.
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// What will be left of it.
    pub(super) fn again(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Reads what is left, up to so many bytes, and forgets it.
    pub(super) async fn drain(mut self, limit: u64) {
        let mut read = 0;
        while let Some(Ok(frame)) = self.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > limit {
                return;
            }
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut body = self.0.lock();
        // At its end a body must not be asked again.
        if body.is_end_stream() {
            return Poll::Ready(None);
        }
        Pin::new(&mut *body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}
