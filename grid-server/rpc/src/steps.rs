//! [`timed`] and [`count_received`]: what calls tell of themselves to those who measure them.

use bytes::Buf as _;
use grid_core::{ServedCall, Step, Stopwatch};
use http::Request;
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use crate::error::code_of;

/// Tells how long a step of the call took, and how it ended.
pub(crate) async fn timed<T>(step: Step, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let mut watch = Stopwatch::start(step);
    let done = work.await;
    watch.note(done.as_ref().err().and_then(code_of));
    done
}

/// Has the bytes of a request counted while they are read, where its call is measured.
#[must_use]
pub fn count_received(request: Request<Body>) -> Request<Body> {
    let Some(call) = request.extensions().get::<ServedCall>().cloned() else { return request };
    request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                call.observer.event(grid_core::CallEvent::Received(data.remaining() as u64));
            }
            frame
        }))
    })
}
