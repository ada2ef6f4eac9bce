//! [`Trailing`]: sends what is told beside an answer after it, as trailing metadata.
//!
//! BuildGrid's bots, its clients and buildbox-worker look for it there and nowhere else, while the metadata of a
//! [`tonic::Response`] goes ahead of the answer. Neighbours: [`crate::bots`] tells of leases, [`crate::operations`] of who
//! asked for an operation.

use std::task::{Context, Poll};

use futures::future::{FutureExt as _, Map};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::bots::ABOUT_LEASE;
use crate::metadata::{CLIENT_IDENTITY, REQUEST_METADATA};

/// What goes after the answer.
const TOLD: [&str; 3] = [ABOUT_LEASE, REQUEST_METADATA, CLIENT_IDENTITY];

/// A service with what it tells beside its answers in the trailers.
#[derive(Clone, Debug)]
pub struct Trailing<S>(pub S);

impl<S: NamedService> NamedService for Trailing<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Trailing<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Map<S::Future, fn(Result<Response<Body>, S::Error>) -> Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request).map(|answer| answer.map(move_to_trailers))
    }
}

fn move_to_trailers(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let values = |name| headers.get_all(name).iter().map(move |value| (name, value.clone()));
    let told: Vec<(&str, HeaderValue)> = TOLD.into_iter().flat_map(values).collect();
    if told.is_empty() {
        return response;
    }
    for name in TOLD {
        response.headers_mut().remove(name);
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                for (name, value) in &told {
                    trailers.append(*name, value.clone());
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::HeaderMap;
    use http_body_util::StreamBody;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// An answer of one message, with this metadata, as tonic makes it.
    fn answer(told: &[(&'static str, &'static str)]) -> Response<Body> {
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let frames = [Frame::data(Bytes::from_static(b"session")), Frame::trailers(status)];
        let body = futures::stream::iter(frames.map(Ok::<_, Infallible>));
        let mut response = Response::new(Body::new(StreamBody::new(body)));
        for (name, value) in told {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }

    async fn served(told: &'static [(&'static str, &'static str)]) -> (HeaderMap, HeaderMap) {
        let service =
            Trailing(service_fn(move |_: Request<()>| async move { Ok::<_, Infallible>(answer(told)) }));
        let (parts, body) = service.oneshot(Request::new(())).await.unwrap().into_parts();
        let whole = body.collect().await.unwrap();
        let trailers = whole.trailers().unwrap().clone();
        assert_eq!(whole.to_bytes(), "session");
        (parts.headers, trailers)
    }

    #[tokio::test]
    async fn what_is_told_of_each_lease_follows_the_answer_beside_its_status() {
        let (headers, trailers) = served(&[(ABOUT_LEASE, "b25l"), (ABOUT_LEASE, "dHdv")]).await;
        assert!(!headers.contains_key(ABOUT_LEASE), "{headers:?}");
        assert_eq!(trailers.get_all(ABOUT_LEASE).iter().collect::<Vec<_>>(), ["b25l", "dHdv"]);
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[tokio::test]
    async fn who_asked_follows_the_answer_and_other_metadata_goes_ahead_of_it() {
        let (headers, trailers) =
            served(&[(REQUEST_METADATA, "b25l"), (CLIENT_IDENTITY, "dHdv"), ("other", "x")]).await;
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["other"]);
        assert_eq!(trailers[REQUEST_METADATA], "b25l");
        assert_eq!(trailers[CLIENT_IDENTITY], "dHdv");
    }

    #[tokio::test]
    async fn an_answer_with_nothing_to_tell_is_as_it_was() {
        let (_, trailers) = served(&[]).await;
        assert_eq!(trailers.len(), 1, "{trailers:?}");
    }
}
