//! Build events: what a build tool publishes of its builds, and BuildGrid's query over it.
//!
//! An event is acknowledged once it is durable. Events are known by their numbers: one that is sent again, on
//! whatever replica, changes nothing and is acknowledged again (Build Event Service, `PublishBuildToolEventStream`).
//! A client that asks for it is told where the events are missing that lead to its own: the build was enqueued, then an
//! attempt started, then its tool's stream and its end follow, then the build's end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream;
use futures::{FutureExt, Stream, StreamExt};
use grid_core::Violation;
use grid_proto::buildevents::build_event::Event;
use grid_proto::buildevents::publish_build_event_server::PublishBuildEvent;
use grid_proto::buildevents::{
    OrderedBuildEvent, PublishBuildToolEventStreamRequest, PublishBuildToolEventStreamResponse,
    PublishLifecycleEventRequest, StreamId, stream_id,
};
use grid_proto::buildgrid::query_build_events_server::QueryBuildEvents;
use grid_proto::buildgrid::query_event_streams_response::BuildEventStream;
use grid_proto::buildgrid::{QueryEventStreamsRequest, QueryEventStreamsResponse};
use grid_streams::{EventStore, StoredEvent, StoredStream, StreamsError, stream_name};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::RpcError;
use crate::auth::permit;
use crate::error::status;

/// How many events are kept in one transaction, and how many bytes of them.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 1 << 20;
/// After so many bytes of events a stream's size is looked up again: others may write to it too.
const ASK_AFTER: u64 = 16 << 20;
/// The component whose streams have the events of a build's life.
const CONTROLLER: i32 = stream_id::BuildComponent::Controller as i32;

/// The instance that authorization takes build events to be in: the protocol has none.
const INSTANCE: &str = "";

/// The build event services of a server. They know no instances: builds are told apart by their identifiers.
#[derive(Clone, Debug)]
pub struct BuildEvents {
    store: Arc<dyn EventStore>,
    max_stream_bytes: u64,
}

impl BuildEvents {
    /// Build events kept in `store`, of each stream at most so many bytes.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, max_stream_bytes: u64) -> Self {
        Self { store, max_stream_bytes }
    }

    /// Keeps events of a stream that may grow by `room` bytes before its size is looked up.
    async fn keep(&self, id: &StreamId, events: &[StoredEvent], room: &mut u64) -> Result<(), Status> {
        let name = name(id);
        let bytes = events.iter().map(|event| event.event.len() as u64).sum();
        if bytes > *room {
            let size = self.store.size(&name).await.map_err(status)?;
            let left = self.max_stream_bytes.saturating_sub(size);
            if bytes > left {
                let limit = self.max_stream_bytes;
                return Err(status(StreamsError::Full { name: format!("build event stream {name}"), limit }));
            }
            *room = left.min(ASK_AFTER.max(bytes));
        }
        *room -= bytes;
        self.store.append(&name, &id.encode_to_vec(), events).await.map_err(status)
    }

    /// Refuses a stream whose build, or attempt at it, is not known to have begun.
    async fn check_begun(&self, id: &StreamId, first: i64, kind: Option<&Event>) -> Result<(), Status> {
        let build = || stream_name(&id.build_id, CONTROLLER, "");
        let (leading, before) = match kind {
            Some(Event::BuildEnqueued(_)) => return Ok(()),
            Some(Event::InvocationAttemptStarted(_)) => (build(), i64::MAX),
            Some(Event::BuildFinished(_) | Event::InvocationAttemptFinished(_)) => (name(id), first),
            _ => (stream_name(&id.build_id, CONTROLLER, &id.invocation_id), i64::MAX),
        };
        if self.store.has_before(&leading, before).await.map_err(status)? {
            return Ok(());
        }
        let message =
            format!("the events that lead to this one are missing: stream {leading} has none of them");
        let violation = Violation {
            kind: "LIFECYCLE".into(),
            subject: leading,
            description: "publish its events first".into(),
        };
        Err(status(RpcError::Missing { message, violations: vec![violation] }))
    }
}

fn name(id: &StreamId) -> String {
    stream_name(&id.build_id, id.component, &id.invocation_id)
}

/// What an event tells.
fn kind(event: Option<&OrderedBuildEvent>) -> Option<&Event> {
    event?.event.as_ref()?.event.as_ref()
}

/// The stream of an event, and the event as it is kept.
fn read(field: &str, event: Option<OrderedBuildEvent>) -> Result<(StreamId, StoredEvent), RpcError> {
    let event = event.ok_or_else(|| RpcError::field(field, "is not set"))?;
    let unset = || RpcError::field(format!("{field}.stream_id.build_id"), "is not set");
    let id = event.stream_id.clone().filter(|id| !id.build_id.is_empty()).ok_or_else(unset)?;
    if event.sequence_number < 1 {
        let problem = format!("is {}; numbers start at 1", event.sequence_number);
        return Err(RpcError::field(format!("{field}.sequence_number"), problem));
    }
    let encoded = event.encode_to_vec().into();
    Ok((id, StoredEvent { sequence_number: event.sequence_number, event: encoded }))
}

fn is_lifecycle(event: &OrderedBuildEvent) -> bool {
    matches!(
        kind(Some(event)),
        Some(
            Event::BuildEnqueued(_)
                | Event::BuildFinished(_)
                | Event::InvocationAttemptStarted(_)
                | Event::InvocationAttemptFinished(_)
        )
    )
}

/// The field of a tool's events.
const FIELD: &str = "ordered_build_event";

/// A tool's stream of events on its way into the store.
struct Publishing {
    service: BuildEvents,
    messages: Streaming<PublishBuildToolEventStreamRequest>,
    /// The stream, and the number of the last event.
    last: Option<(StreamId, i64)>,
    /// By how many bytes the stream may grow before its size is looked up.
    room: u64,
    acknowledged: VecDeque<PublishBuildToolEventStreamResponse>,
}

impl Publishing {
    async fn next(mut self) -> Result<Option<(PublishBuildToolEventStreamResponse, Self)>, Status> {
        if let Some(answer) = self.acknowledged.pop_front() {
            return Ok(Some((answer, self)));
        }
        let Some(first) = self.messages.message().await? else { return Ok(None) };
        if self.last.is_none() && first.check_preceding_lifecycle_events_present {
            let (id, event) = read(FIELD, first.ordered_build_event.clone()).map_err(status)?;
            self.service.check_begun(&id, event.sequence_number, None).await?;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut failure = None;
        let mut next = Some(Ok(first));
        while let Some(message) = next.take() {
            match message.and_then(|message| self.accept(message)) {
                Ok(event) => {
                    bytes += event.event.len();
                    batch.push(event);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            if batch.len() < BATCH && bytes < BATCH_BYTES {
                next = self.messages.next().now_or_never().flatten();
            }
        }
        // What came in order before a failure is kept, though the call ends.
        if let Some((id, _)) = self.last.as_ref().filter(|_| !batch.is_empty()) {
            self.service.keep(id, &batch, &mut self.room).await?;
            let answer = |event: &StoredEvent| PublishBuildToolEventStreamResponse {
                stream_id: Some(id.clone()),
                sequence_number: event.sequence_number,
            };
            self.acknowledged = batch.iter().map(answer).collect();
        }
        match (failure, self.acknowledged.pop_front()) {
            (Some(failure), _) => Err(failure),
            (None, answer) => Ok(answer.map(|answer| (answer, self))),
        }
    }

    fn accept(&mut self, message: PublishBuildToolEventStreamRequest) -> Result<StoredEvent, Status> {
        let (id, event) = read(FIELD, message.ordered_build_event).map_err(status)?;
        if let Some((stream, last)) = &self.last {
            if *stream != id {
                return Err(status(RpcError::field(
                    format!("{FIELD}.stream_id"),
                    "changed in the middle of a stream",
                )));
            }
            if event.sequence_number != last + 1 {
                let problem = format!("is {}; expected {}", event.sequence_number, last + 1);
                return Err(status(RpcError::field(format!("{FIELD}.sequence_number"), problem)));
            }
        }
        self.last = Some((id, event.sequence_number));
        Ok(event)
    }
}

#[tonic::async_trait]
impl PublishBuildEvent for BuildEvents {
    type PublishBuildToolEventStreamStream =
        Pin<Box<dyn Stream<Item = Result<PublishBuildToolEventStreamResponse, Status>> + Send>>;

    async fn publish_lifecycle_event(
        &self,
        request: Request<PublishLifecycleEventRequest>,
    ) -> Result<Response<()>, Status> {
        permit(INSTANCE).await.map_err(status)?;
        let request = request.into_inner();
        let event = request.build_event;
        if event.as_ref().is_some_and(|event| !is_lifecycle(event)) {
            return Err(status(RpcError::field("build_event.event", "is no event of a build's life")));
        }
        let leading = event.clone().filter(|_| request.check_preceding_lifecycle_events_present);
        let (id, event) = read("build_event", event).map_err(status)?;
        if let Some(leading) = leading {
            self.check_begun(&id, event.sequence_number, kind(Some(&leading))).await?;
        }
        self.keep(&id, &[event], &mut 0).await?;
        Ok(Response::new(()))
    }

    async fn publish_build_tool_event_stream(
        &self,
        request: Request<Streaming<PublishBuildToolEventStreamRequest>>,
    ) -> Result<Response<Self::PublishBuildToolEventStreamStream>, Status> {
        permit(INSTANCE).await.map_err(status)?;
        let publishing = Publishing {
            service: self.clone(),
            messages: request.into_inner(),
            last: None,
            room: 0,
            acknowledged: VecDeque::new(),
        };
        Ok(Response::new(Box::pin(stream::try_unfold(publishing, Publishing::next))))
    }
}

fn stored(stream: StoredStream) -> Result<BuildEventStream, RpcError> {
    let lost =
        |error: prost::DecodeError| RpcError::DataLoss(format!("a stored build event is damaged: {error}"));
    let events = stream.events.into_iter().map(|e| OrderedBuildEvent::decode(e.event).map_err(lost));
    Ok(BuildEventStream {
        stream_id: Some(StreamId::decode(stream.stream_id).map_err(lost)?),
        events: events.collect::<Result<_, _>>()?,
    })
}

#[tonic::async_trait]
impl QueryBuildEvents for BuildEvents {
    async fn query_event_streams(
        &self,
        request: Request<QueryEventStreamsRequest>,
    ) -> Result<Response<QueryEventStreamsResponse>, Status> {
        permit(INSTANCE).await.map_err(status)?;
        let found = self.store.query(&request.get_ref().build_id_pattern).await.map_err(status)?;
        let streams = found.into_iter().map(stored).collect::<Result<_, _>>().map_err(status)?;
        Ok(Response::new(QueryEventStreamsResponse { streams }))
    }
}
