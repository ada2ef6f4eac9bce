//! Build events: what a build tool publishes of its builds, and BuildGrid's query over it.
//!
//! An event is acknowledged once it is durable. Events are known by their numbers: one that is sent again, on
//! whatever replica, changes nothing and is acknowledged again (Build Event Service, `PublishBuildToolEventStream`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream;
use futures::{FutureExt, Stream, StreamExt};
use grid_proto::buildevents::build_event::Event;
use grid_proto::buildevents::publish_build_event_server::PublishBuildEvent;
use grid_proto::buildevents::{
    OrderedBuildEvent, PublishBuildToolEventStreamRequest, PublishBuildToolEventStreamResponse,
    PublishLifecycleEventRequest, StreamId,
};
use grid_proto::buildgrid::query_build_events_server::QueryBuildEvents;
use grid_proto::buildgrid::query_event_streams_response::BuildEventStream;
use grid_proto::buildgrid::{QueryEventStreamsRequest, QueryEventStreamsResponse};
use grid_streams::{EventStore, StoredEvent, StoredStream};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::RpcError;
use crate::auth::permit;
use crate::error::status;

/// How many events are kept in one transaction, and how many bytes of them.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 1 << 20;

/// The instance that authorization takes build events to be in: the protocol has none.
const INSTANCE: &str = "";

/// The build event services of a server. They know no instances: builds are told apart by their identifiers.
#[derive(Clone, Debug)]
pub struct BuildEvents {
    store: Arc<dyn EventStore>,
}

impl BuildEvents {
    /// Build events kept in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store }
    }

    async fn keep(&self, id: &StreamId, events: &[StoredEvent]) -> Result<(), Status> {
        self.store.append(&stream_name(id), &id.encode_to_vec(), events).await.map_err(status)
    }
}

/// The name that queries match: build, component as a number, invocation (BuildGrid's `QueryBuildEvents`).
fn stream_name(id: &StreamId) -> String {
    format!("{}.{}.{}", id.build_id, id.component, id.invocation_id)
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
        event.event.as_ref().and_then(|e| e.event.as_ref()),
        Some(
            Event::BuildEnqueued(_)
                | Event::BuildFinished(_)
                | Event::InvocationAttemptStarted(_)
                | Event::InvocationAttemptFinished(_)
        )
    )
}

/// A tool's stream of events on its way into the store.
struct Publishing {
    service: BuildEvents,
    messages: Streaming<PublishBuildToolEventStreamRequest>,
    /// The stream, and the number of the last event.
    last: Option<(StreamId, i64)>,
    acknowledged: VecDeque<PublishBuildToolEventStreamResponse>,
}

impl Publishing {
    async fn next(mut self) -> Result<Option<(PublishBuildToolEventStreamResponse, Self)>, Status> {
        if let Some(answer) = self.acknowledged.pop_front() {
            return Ok(Some((answer, self)));
        }
        let Some(first) = self.messages.message().await? else { return Ok(None) };
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
            self.service.keep(id, &batch).await?;
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
        const FIELD: &str = "ordered_build_event";
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
        let event = request.into_inner().build_event;
        if event.as_ref().is_some_and(|event| !is_lifecycle(event)) {
            return Err(status(RpcError::field("build_event.event", "is no event of a build's life")));
        }
        let (id, event) = read("build_event", event).map_err(status)?;
        self.keep(&id, &[event]).await?;
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
