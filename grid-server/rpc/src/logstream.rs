//! The Log Stream API: `CreateLogStream`, and the log-stream side of `ByteStream`.
//!
//! A stream is read by its name and written by its write name, which has a secret token more. The Log Stream API
//! spells the segment `logstreams`, BuildGrid `logStreams`: a stream is made with the first and found by either.
//! Parents are free text beneath an instance; the instances' names, and no others, are taken as their beginning.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use futures::{FutureExt, StreamExt};
use grid_core::InstanceName;
use grid_proto::bytestream::{QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest};
use grid_proto::logstream::log_stream_service_server::LogStreamService;
use grid_proto::logstream::{CreateLogStreamRequest, LogStream};
use grid_streams::{LogState, LogStreamStore};
use tonic::{Request, Response, Status, Streaming};

use crate::RpcError;
use crate::bytestream::ReadMessages;
use crate::error::status;
use crate::transport::place;

/// How long a call waits for a stream to change before it looks around.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the writer of a lease that is over may take for what is left.
const QUIET: Duration = Duration::from_secs(2);
/// The bytes of small messages that are put together for the store.
const GATHER: usize = 256 << 10;
/// The longest parent, in bytes.
const MAX_PARENT: usize = 1_024;

/// The log streams of a server.
#[derive(Clone, Debug)]
pub struct LogStreams {
    store: Arc<dyn LogStreamStore>,
    instances: Arc<[InstanceName]>,
    prefix: Arc<str>,
}

/// A stream's name and, in a write name, its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name<'a> {
    parent: &'a str,
    id: &'a str,
    token: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Result<Self, RpcError> {
        let bad = || RpcError::field("resource_name", "is not of the form PARENT/logstreams/ID[/TOKEN]");
        // A segment of the parent may end in the same letters.
        let found = ["logstreams/", "logStreams/"].into_iter().filter_map(|segment| {
            let whole = |at: &usize| *at == 0 || name[..*at].ends_with('/');
            let at = name.match_indices(segment).map(|(at, _)| at).find(whole)?;
            Some((at, segment.len()))
        });
        let (at, length) = found.min().ok_or_else(bad)?;
        let mut rest = name[at + length..].split('/');
        let id = rest.next().filter(|id| !id.is_empty()).ok_or_else(bad)?;
        let token = rest.next();
        if token == Some("") || rest.next().is_some() {
            return Err(bad());
        }
        Ok(Self { parent: name[..at].trim_end_matches('/'), id, token })
    }

    /// The name that the store knows the stream by.
    fn key(&self) -> String {
        stream_name(self.parent, self.id)
    }

    fn to_write(self) -> Result<(String, &'a str), RpcError> {
        let token = self.token.ok_or_else(|| {
            RpcError::field("resource_name", "is a stream's name; write to its write_resource_name")
        })?;
        Ok((self.key(), token))
    }

    fn to_read(self) -> Result<String, RpcError> {
        match self.token {
            None => Ok(self.key()),
            Some(_) => Err(RpcError::field("resource_name", "is a write_resource_name, which can't be read")),
        }
    }
}

fn stream_name(parent: &str, id: &str) -> String {
    if parent.is_empty() { format!("logstreams/{id}") } else { format!("{parent}/logstreams/{id}") }
}

impl LogStreams {
    /// Log streams over `store` for these instances. `prefix` begins each stream's identifier.
    #[must_use]
    pub fn new(
        store: Arc<dyn LogStreamStore>,
        instances: impl IntoIterator<Item = InstanceName>,
        prefix: &str,
    ) -> Self {
        Self { store, instances: instances.into_iter().collect(), prefix: prefix.into() }
    }

    /// Makes a stream beneath `parent`.
    ///
    /// # Errors
    /// A status that names what is wrong with the parent; the store's trouble.
    pub async fn create(&self, parent: &str) -> Result<LogStream, Status> {
        self.check_parent(parent).await.map_err(status)?;
        let id = format!("{}{}", self.prefix, uuid::Uuid::new_v4());
        let token = uuid::Uuid::new_v4().to_string();
        let name = stream_name(parent, &id);
        self.store.create(&name, &token).await.map_err(status)?;
        let write_resource_name = format!("{name}/{token}");
        Ok(LogStream { name, write_resource_name })
    }

    /// Ends a stream once its writer has ended it or has been quiet for a while.
    ///
    /// # Errors
    /// A status that names what is wrong with the write name; the store's trouble.
    pub(crate) async fn end(&self, write_name: &str) -> Result<(), Status> {
        let (name, token) = Name::parse(write_name).and_then(Name::to_write).map_err(status)?;
        let mut state = self.store.state(&name, Some(token)).await.map_err(status)?;
        while !state.finished {
            let now = self.store.changed(&name, state, QUIET).await.map_err(status)?;
            if now.committed == state.committed && !now.finished {
                let end = self.store.append(&name, token, now.committed, Bytes::new(), true).await;
                return end.map(drop).map_err(status);
            }
            state = now;
        }
        Ok(())
    }

    async fn check_parent(&self, parent: &str) -> Result<(), RpcError> {
        let reserved = |segment: &str| {
            matches!(segment, "blobs" | "uploads" | "compressed-blobs" | "logstreams" | "logStreams")
        };
        let malformed = parent.len() > MAX_PARENT
            || parent.chars().any(char::is_control)
            || (!parent.is_empty() && parent.split('/').any(|s| s.is_empty() || reserved(s)));
        if malformed {
            let problem = format!(
                "must be segments divided by single slashes, none of them reserved, of at most {MAX_PARENT} bytes"
            );
            return Err(RpcError::field("parent", problem));
        }
        self.permit(parent).await
    }

    /// Whether `parent` lies in an instance, and the caller may use that one.
    async fn permit(&self, parent: &str) -> Result<(), RpcError> {
        let within = |instance: &&InstanceName| {
            let name = instance.as_str();
            name.is_empty()
                || parent.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Where one instance's name begins another's, the longer is meant.
        let longest = self.instances.iter().filter(within).max_by_key(|name| name.as_str().len());
        let Some(instance) = longest else {
            let name = parent.chars().take(255).collect();
            return Err(RpcError::UnknownInstance { name, service: "LogStreamService" });
        };
        crate::auth::permit(instance.as_str()).await
    }

    /// The stream's key and the token of a write name that the caller may use.
    async fn to_write<'a>(&self, name: &'a str) -> Result<(String, &'a str), RpcError> {
        let name = Name::parse(name)?;
        self.permit(name.parent).await?;
        name.to_write()
    }

    /// `ByteStream.Read` of a stream: what is there, then what comes, until the stream is finished.
    pub(crate) async fn read(&self, request: &ReadRequest) -> Result<ReadMessages, Status> {
        let name = Name::parse(&request.resource_name).map_err(status)?;
        self.permit(name.parent).await.map_err(status)?;
        let name = name.to_read().map_err(status)?;
        let offset = u64::try_from(request.read_offset).map_err(|_| {
            status(RpcError::OutOfRange(format!("read_offset {} is negative", request.read_offset)))
        })?;
        let limit = u64::try_from(request.read_limit).map_err(|_| {
            status(RpcError::field("read_limit", format!("{} is negative", request.read_limit)))
        })?;
        let state = self.store.state(&name, None).await.map_err(status)?;
        if offset > state.committed && state.finished {
            let end = state.committed;
            return Err(status(RpcError::OutOfRange(format!(
                "read_offset {offset} is past the stream's end at {end}"
            ))));
        }
        self.store.add_reader(&name).await.map_err(status)?;
        let left = if limit == 0 { u64::MAX } else { limit };
        let tail = Tail { store: Arc::clone(&self.store), name, offset, left, state };
        Ok(Box::pin(stream::try_unfold(tail, Tail::next)))
    }

    /// `ByteStream.Write` to a stream; gives the committed size. The stream stays open unless the client finishes it.
    ///
    /// A writer may be quiet for as long as its program is: whether it is still there, the transport's pings tell.
    pub(crate) async fn write(
        &self,
        name: &str,
        first: WriteRequest,
        mut messages: Streaming<WriteRequest>,
    ) -> Result<i64, Status> {
        let (name, token) = self.to_write(name).await.map_err(status)?;
        let mut next = Some(first);
        let mut committed = 0;
        let mut expected = None;
        while let Some(message) = next.take() {
            let batch = Batch::gather(message, expected, &mut messages)?;
            committed = self
                .store
                .append(&name, token, batch.offset, batch.content.freeze(), batch.finish)
                .await
                .map_err(status)?;
            expected = Some(committed);
            if batch.finish {
                break;
            }
            next = match batch.rest {
                Some(message) => Some(message),
                // The writer of an action's log says nothing for as long as the action doesn't.
                None => place::away(messages.message()).await.map_err(status)??,
            };
        }
        Ok(i64::try_from(committed).unwrap_or(i64::MAX))
    }

    /// `QueryWriteStatus` of a stream. While nothing has been written it waits for a reader, which is how a writer
    /// asks whether anyone looks (BuildGrid's `--wait-for-reader`). It is answered after a while all the same: BuildBox's
    /// outputstreamer always asks and sets no deadline, and what it writes is kept for readers that come later.
    pub(crate) async fn query(&self, name: &str) -> Result<QueryWriteStatusResponse, Status> {
        let (name, token) = self.to_write(name).await.map_err(status)?;
        let mut state = self.store.state(&name, Some(token)).await.map_err(status)?;
        if state.committed == 0 && state.readers == 0 && !state.finished {
            place::leave();
            state = self.store.changed(&name, state, PATIENCE).await.map_err(status)?;
        }
        let committed_size = i64::try_from(state.committed).unwrap_or(i64::MAX);
        Ok(QueryWriteStatusResponse { committed_size, complete: state.finished })
    }
}

/// Messages of a writer that were there together.
struct Batch {
    offset: u64,
    content: BytesMut,
    finish: bool,
    /// A message that came with them and is too much for one piece.
    rest: Option<WriteRequest>,
}

impl Batch {
    fn gather(
        first: WriteRequest,
        expected: Option<u64>,
        messages: &mut Streaming<WriteRequest>,
    ) -> Result<Self, Status> {
        let offset = check_offset(&first, expected)?;
        let content = first.data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
        let mut batch = Self { offset, content, finish: first.finish_write, rest: None };
        while !batch.finish {
            let Some(Some(message)) = messages.next().now_or_never() else { break };
            let message = message?;
            if batch.content.len() + message.data.len() > GATHER {
                batch.rest = Some(message);
                break;
            }
            check_offset(&message, Some(offset + batch.content.len() as u64))?;
            batch.content.extend_from_slice(&message.data);
            batch.finish = message.finish_write;
        }
        Ok(batch)
    }
}

fn check_offset(message: &WriteRequest, expected: Option<u64>) -> Result<u64, Status> {
    let given = message.write_offset;
    match (u64::try_from(given), expected) {
        (Ok(offset), None) => Ok(offset),
        (Ok(offset), Some(expected)) if offset == expected => Ok(offset),
        (_, expected) => {
            let problem = format!("is {given}; expected {}", expected.unwrap_or(0));
            Err(status(RpcError::field("write_offset", problem)))
        }
    }
}

/// A reader's place in a stream.
struct Tail {
    store: Arc<dyn LogStreamStore>,
    name: String,
    offset: u64,
    left: u64,
    state: LogState,
}

impl Tail {
    async fn next(mut self) -> Result<Option<(ReadResponse, Self)>, Status> {
        while self.left > 0 {
            if self.offset < self.state.committed {
                let mut data: Bytes = self.store.read(&self.name, self.offset).await.map_err(status)?;
                data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX).min(1 << 20));
                if data.is_empty() {
                    return Err(status(RpcError::DataLoss(format!("log stream {} has a gap", self.name))));
                }
                self.offset += data.len() as u64;
                self.left -= data.len() as u64;
                return Ok(Some((ReadResponse { data }, self)));
            }
            if self.state.finished {
                break;
            }
            self.state = self.store.changed(&self.name, self.state, PATIENCE).await.map_err(status)?;
        }
        Ok(None)
    }
}

#[tonic::async_trait]
impl LogStreamService for LogStreams {
    async fn create_log_stream(
        &self,
        request: Request<CreateLogStreamRequest>,
    ) -> Result<Response<LogStream>, Status> {
        self.create(&request.get_ref().parent).await.map(Response::new)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use grid_core::Timestamp;
    use grid_proto::bytestream::byte_stream_server::ByteStream as _;
    use grid_proto::bytestream::{QueryWriteStatusRequest, WriteResponse};
    use grid_streams::StreamsError;
    use parking_lot::Mutex;
    use tonic::body::Body;
    use tonic::codec::{Codec as _, EncodeBody};
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::Instances;
    use crate::bytestream::ByteStreamService;

    /// One stream, in memory: so that time can stand still around it.
    #[derive(Debug)]
    struct OneLog {
        content: Mutex<(BytesMut, bool)>,
        readers: AtomicU64,
    }

    impl OneLog {
        fn now(&self) -> LogState {
            let content = self.content.lock();
            let readers = self.readers.load(Ordering::SeqCst);
            LogState { committed: content.0.len() as u64, finished: content.1, readers }
        }
    }

    #[async_trait::async_trait]
    impl LogStreamStore for OneLog {
        async fn create(&self, _: &str, _: &str) -> Result<(), StreamsError> {
            Ok(())
        }

        async fn state(&self, _: &str, _: Option<&str>) -> Result<LogState, StreamsError> {
            Ok(self.now())
        }

        async fn append(
            &self,
            _: &str,
            _: &str,
            _: u64,
            content: Bytes,
            finish: bool,
        ) -> Result<u64, StreamsError> {
            let mut kept = self.content.lock();
            kept.0.extend_from_slice(&content);
            kept.1 |= finish;
            Ok(kept.0.len() as u64)
        }

        async fn read(&self, _: &str, _: u64) -> Result<Bytes, StreamsError> {
            Ok(Bytes::new())
        }

        async fn add_reader(&self, _: &str) -> Result<(), StreamsError> {
            self.readers.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn changed(&self, _: &str, _: LogState, patience: Duration) -> Result<LogState, StreamsError> {
            tokio::time::sleep(patience).await;
            Ok(self.now())
        }

        async fn expire(&self, _: Timestamp) -> Result<u64, StreamsError> {
            Ok(0)
        }
    }

    fn serving_one_log() -> (ByteStreamService, Arc<OneLog>) {
        let store = Arc::new(OneLog { content: Mutex::default(), readers: AtomicU64::new(0) });
        let logs = LogStreams::new(Arc::clone(&store) as _, [InstanceName::new("").unwrap()], "");
        let none = Instances::new("ByteStream", Vec::new());
        (ByteStreamService::new(none, Some(logs), Duration::from_secs(120)), store)
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_may_be_quiet_for_longer_than_that_of_a_blob() {
        let (service, store) = serving_one_log();
        let piece = |at: i64, text: &'static str, finish_write| WriteRequest {
            resource_name: "x/logstreams/id/token".into(),
            write_offset: at,
            finish_write,
            data: Bytes::from_static(text.as_bytes()),
        };
        let late = async move {
            tokio::time::sleep(Duration::from_mins(10)).await;
            Ok(piece(4, "two", true))
        };
        let messages = stream::iter([Ok(piece(0, "one ", false))]).chain(stream::once(late));
        let mut codec = ProstCodec::<WriteRequest, WriteResponse>::default();
        let body = Body::new(EncodeBody::new_client(codec.encoder(), messages, None, None));
        let decoder = ProstCodec::<(), WriteRequest>::default().decoder();
        let messages = Streaming::new_request(decoder, body, None, None);
        let answer = service.write(Request::new(messages)).await.unwrap();
        assert_eq!(answer.into_inner().committed_size, 7);
        assert_eq!(&store.content.lock().0[..], b"one two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_whose_reader_never_comes_is_not_held_for_ever() {
        let (service, _store) = serving_one_log();
        let request = QueryWriteStatusRequest { resource_name: "x/logstreams/id/token".into() };
        let mut waiting = std::pin::pin!(service.query_write_status(Request::new(request)));
        let early = tokio::time::timeout(PATIENCE - Duration::from_secs(1), &mut waiting).await;
        assert!(early.is_err(), "nobody has come: {early:?}");
        let late = tokio::time::timeout(Duration::from_secs(2), waiting).await.unwrap().unwrap();
        assert_eq!(late.into_inner(), QueryWriteStatusResponse::default());
    }

    #[test]
    fn a_parent_may_end_in_the_same_letters() {
        let name = Name::parse("main/my-logstreams/logstreams/abc").unwrap();
        assert_eq!((name.parent, name.id, name.token), ("main/my-logstreams", "abc", None));
        assert_eq!(name.key(), "main/my-logstreams/logstreams/abc");
    }

    #[test]
    fn both_spellings_name_the_same_stream() {
        let spec = Name::parse("main/x_stdout/logstreams/abc/tok").unwrap();
        let classic = Name::parse("main/x_stdout/logStreams/abc/tok").unwrap();
        assert_eq!(spec, classic);
        assert_eq!(spec.to_write().unwrap(), ("main/x_stdout/logstreams/abc".to_owned(), "tok"));
        assert_eq!(Name::parse("logstreams/abc").unwrap().to_read().unwrap(), "logstreams/abc");
    }

    #[test]
    fn write_names_are_not_read_and_read_names_not_written() {
        assert!(Name::parse("p/logstreams/abc/tok").unwrap().to_read().is_err());
        assert!(Name::parse("p/logstreams/abc").unwrap().to_write().is_err());
        for bad in ["p/logstreams/", "p/logstreams/a/b/c", "p/logstreams/a/", "xlogstreams/a", ""] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
