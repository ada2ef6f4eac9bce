//! [`Uncopied`]: reads whose content goes to the connection as the store gave it.
//!
//! An encoder of messages writes them into a buffer, which copies every byte of content: a third of what a read costs. A
//! message is a few bytes and then its content, though, so `Read` is answered here with these few as a frame of their own
//! (gRPC over HTTP/2: one byte for compression, four of length; protobuf: the field's key, its length). All other calls, and
//! those whose request is compressed, go to the generated server.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use grid_proto::bytestream::byte_stream_server::{ByteStream, SERVICE_NAME};
use grid_proto::bytestream::{ReadRequest, ReadResponse};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::body::Body;
use tonic::codec::{Codec as _, Streaming};
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::{ByteStreamService, ReadMessages};
use crate::transport::around::Around;

/// The number of `ReadResponse.data`.
const DATA: u32 = 10;
/// What gRPC puts before a message.
const PREFIX: usize = 5;
/// Content of less is copied behind its head: a frame of its own costs more.
const SMALL: usize = 4 << 10;
const ENCODING: &str = "grpc-encoding";

/// Stands before the generated server of a [`ByteStreamService`].
#[derive(Clone, Debug)]
pub struct Uncopied {
    service: ByteStreamService,
    limit: usize,
}

impl Uncopied {
    /// Answers the reads of `service`, from requests of at most `limit` bytes.
    #[must_use]
    pub const fn new(service: ByteStreamService, limit: usize) -> Self {
        Self { service, limit }
    }

    async fn read(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let decoder = ProstCodec::<(), ReadRequest>::default().decoder();
        let mut messages = Streaming::new_request(decoder, body, None, Some(self.limit));
        let message = messages.message().await?;
        let message = message.ok_or_else(|| Status::internal("the call ended before its request"))?;
        let metadata = MetadataMap::from_headers(parts.headers);
        let request = tonic::Request::from_parts(metadata, parts.extensions, message);
        let messages = self.service.read(request).await?.into_inner();
        let mut response = Response::new(Body::new(Messages { messages, content: None, ended: false }));
        response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
        Ok(response)
    }
}

impl Around for Uncopied {
    async fn around<S>(self, request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send,
    {
        let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
        let plain = request.headers().get(ENCODING).is_none_or(|encoding| encoding == "identity");
        if method != Some("/Read") || !plain {
            return inner.call(request).await;
        }
        Ok(self.read(request).await.unwrap_or_else(Status::into_http))
    }
}

/// The body of an answer.
struct Messages {
    messages: ReadMessages,
    /// The content of the message whose head was sent last.
    content: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(content) = self.content.take() {
            return Poll::Ready(Some(Ok(Frame::data(content))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.messages.as_mut().poll_next(cx)) {
            Some(Ok(ReadResponse { data })) => {
                let (head, content) = encode(data);
                self.content = content;
                return Poll::Ready(Some(Ok(Frame::data(head))));
            }
            Some(Err(status)) => status,
            None => Status::new(Code::Ok, ""),
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.content.is_none()
    }
}

/// A message with this content: its head, and the content where it goes by itself.
fn encode(content: Bytes) -> (Bytes, Option<Bytes>) {
    let field = match content.len() {
        0 => 0,
        length => key_len(DATA) + encoded_len_varint(length as u64) + length,
    };
    let small = content.len() < SMALL;
    let mut head = BytesMut::with_capacity(PREFIX + field - if small { 0 } else { content.len() });
    head.put_u8(0);
    // Pieces are of a mebibyte at most.
    head.put_u32(u32::try_from(field).unwrap_or(u32::MAX));
    if !content.is_empty() {
        encode_key(DATA, WireType::LengthDelimited, &mut head);
        encode_varint(content.len() as u64, &mut head);
    }
    if small {
        head.put_slice(&content);
    }
    (head.freeze(), (!small).then_some(content))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn messages_are_as_an_encoder_writes_them() {
        for length in [0, 1, 127, 128, SMALL - 1, SMALL, 70_000, 1 << 20] {
            let data: Bytes = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let (head, content) = encode(data.clone());
            assert_eq!(content.is_some(), length >= SMALL, "{length}");
            let whole = [head, content.unwrap_or_default()].concat();
            let message = ReadResponse { data }.encode_to_vec();
            let prefix = [vec![0], u32::try_from(message.len()).unwrap().to_be_bytes().to_vec()].concat();
            assert!(whole == [prefix, message].concat(), "{length}");
        }
    }
}
