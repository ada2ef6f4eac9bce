//! [`Deadlines`]: calls end when their client's deadline has passed, and requests that stop coming are given up.
//!
//! The deadline stands in `grpc-timeout`. A request whose next bytes don't come for [`DeadlineOptions::idle`] is answered
//! DEADLINE_EXCEEDED, whatever method it calls, but for streams that live as long as a build does: there the transport's
//! pings tell whether the client is there.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::body::Body;
use tower::{Layer, Service};

use super::around::{Around, Surrounded};
use crate::{RpcError, to_status};

/// Methods whose clients send as long as something goes on elsewhere; `ByteStream.Write` has a deadline of its own.
const LASTING: [&str; 4] = [
    "/google.bytestream.ByteStream/Write",
    "/google.devtools.build.v1.PublishBuildEvent/PublishBuildToolEventStream",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// How long a client may pause within a request.
    pub idle: Duration,
}

impl<S> Layer<S> for Deadlines {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded::new(*self, inner)
    }
}

impl Around for Deadlines {
    async fn around<S>(self, request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send,
    {
        let wanted = deadline(request.headers());
        let lasting = LASTING.contains(&request.uri().path());
        let request = if lasting || request.body().is_end_stream() {
            request
        } else {
            let idle = self.idle;
            request.map(|inner| Body::new(Coming { inner, idle, late: sleep(idle) }))
        };
        let answer = inner.call(request);
        match wanted {
            None => answer.await,
            Some(wanted) => timeout(wanted, answer).await.unwrap_or_else(|_| {
                let late = RpcError::Deadline("the call's deadline has passed".into());
                Ok(to_status(&late).into_http())
            }),
        }
    }
}

/// The deadline of a call, from now on: digits and a unit (gRPC over HTTP/2, `Timeout`). What is no deadline is none.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

pin_project! {
    /// A request on its way.
    struct Coming {
        #[pin]
        inner: Body,
        idle: Duration,
        #[pin]
        late: Sleep,
    }
}

impl http_body::Body for Coming {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            this.late.as_mut().reset(Instant::now() + *this.idle);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.late.as_mut().poll(cx));
        let pause = format!("nothing more of the request came for {} s", this.idle.as_secs());
        Poll::Ready(Some(Err(to_status(&RpcError::Deadline(pause)).into())))
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

    fn read(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        deadline(&headers)
    }

    #[test]
    fn deadlines_have_a_number_and_a_unit() {
        assert_eq!(read("30S"), Some(Duration::from_secs(30)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "S", "30", "30s", "-1S", "+1S", "123456789S", "1 S", "3\u{e9}"] {
            assert_eq!(text.parse::<http::HeaderValue>().ok().and_then(|_| read(text)), None, "{text}");
        }
    }
}
