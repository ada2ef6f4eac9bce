//! [`Trailing`]: sends what is told of leases after the answer, as trailing metadata.
//!
//! BuildGrid's bots and buildbox-worker look for it there and nowhere else, while the metadata of a
//! [`tonic::Response`] goes ahead of the answer. Neighbour: [`super::logs`] writes the metadata.

use std::task::{Context, Poll};

use futures::future::{FutureExt as _, Map};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::logs::ABOUT_LEASE;

/// The Bots service with its metadata of leases in the trailers.
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
    let told: Vec<_> = response.headers().get_all(ABOUT_LEASE).iter().cloned().collect();
    if told.is_empty() {
        return response;
    }
    response.headers_mut().remove(ABOUT_LEASE);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                for value in &told {
                    trailers.append(ABOUT_LEASE, value.clone());
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

    /// An answer of one message, with these values of the metadata, as tonic makes it.
    fn answer(told: &[&'static str]) -> Response<Body> {
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let frames = [Frame::data(Bytes::from_static(b"session")), Frame::trailers(status)];
        let body = futures::stream::iter(frames.map(Ok::<_, Infallible>));
        let mut response = Response::new(Body::new(StreamBody::new(body)));
        for value in told {
            response.headers_mut().append(ABOUT_LEASE, value.parse().unwrap());
        }
        response
    }

    async fn served(told: &'static [&'static str]) -> (HeaderMap, HeaderMap) {
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
        let (headers, trailers) = served(&["b25l", "dHdv"]).await;
        assert!(!headers.contains_key(ABOUT_LEASE), "{headers:?}");
        assert_eq!(trailers.get_all(ABOUT_LEASE).iter().collect::<Vec<_>>(), ["b25l", "dHdv"]);
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[tokio::test]
    async fn an_answer_without_leases_is_as_it_was() {
        let (_, trailers) = served(&[]).await;
        assert_eq!(trailers.len(), 1, "{trailers:?}");
    }
}
