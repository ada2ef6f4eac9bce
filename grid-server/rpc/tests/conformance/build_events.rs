//! The Build Event Service, and BuildGrid's `QueryBuildEvents`.

use grid_proto::buildevents::build_event::{
    BuildEnqueued, BuildFinished, Event, InvocationAttemptFinished, InvocationAttemptStarted,
};
use grid_proto::buildevents::publish_build_event_client::PublishBuildEventClient;
use grid_proto::buildevents::{
    BuildEvent, OrderedBuildEvent, PublishBuildToolEventStreamRequest, PublishLifecycleEventRequest, StreamId,
};
use grid_proto::buildgrid::QueryEventStreamsRequest;
use grid_proto::buildgrid::query_build_events_client::QueryBuildEventsClient;
use tonic::{Code, Status};

use crate::grid::{EVENTS_BYTES, Grid, refused};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "Build Event Service";

fn event(build: &str, sequence_number: i64) -> OrderedBuildEvent {
    let stream_id = Some(StreamId { build_id: build.into(), invocation_id: "i".into(), component: 3 });
    let event = Some(BuildEvent {
        event: Some(Event::BuildEnqueued(BuildEnqueued::default())),
        ..Default::default()
    });
    OrderedBuildEvent { stream_id, sequence_number, event }
}

async fn publish(grid: &Grid, events: Vec<OrderedBuildEvent>) -> Result<Vec<i64>, Status> {
    let message =
        |event| PublishBuildToolEventStreamRequest { ordered_build_event: Some(event), ..Default::default() };
    let messages: Vec<_> = events.into_iter().map(message).collect();
    let mut client = PublishBuildEventClient::new(grid.channel.clone());
    let mut answers =
        client.publish_build_tool_event_stream(futures::stream::iter(messages)).await?.into_inner();
    let mut numbers = Vec::new();
    while let Some(answer) = answers.message().await? {
        assert!(answer.stream_id.is_some());
        numbers.push(answer.sequence_number);
    }
    Ok(numbers)
}

/// An event of a build's life, or of an attempt's where it names one.
fn of_life(build: &str, invocation: &str, sequence_number: i64, event: Event) -> OrderedBuildEvent {
    let stream_id = Some(StreamId { build_id: build.into(), invocation_id: invocation.into(), component: 1 });
    let event = Some(BuildEvent { event: Some(event), ..Default::default() });
    OrderedBuildEvent { stream_id, sequence_number, event }
}

/// Publishes an event of a build's life, if those that lead to it are there.
async fn checked(grid: &Grid, event: OrderedBuildEvent) -> Result<(), Status> {
    let request = PublishLifecycleEventRequest {
        build_event: Some(event),
        check_preceding_lifecycle_events_present: true,
        ..Default::default()
    };
    PublishBuildEventClient::new(grid.channel.clone()).publish_lifecycle_event(request).await.map(|_| ())
}

/// Publishes a tool's first event, if those that lead to it are there.
async fn checked_tool(grid: &Grid, event: OrderedBuildEvent) -> Result<(), Status> {
    let message = PublishBuildToolEventStreamRequest {
        ordered_build_event: Some(event),
        check_preceding_lifecycle_events_present: true,
        ..Default::default()
    };
    let mut client = PublishBuildEventClient::new(grid.channel.clone());
    let messages = futures::stream::iter([message]);
    client.publish_build_tool_event_stream(messages).await?.into_inner().message().await.map(|_| ())
}

async fn lifecycle(grid: &Grid, build_event: Option<OrderedBuildEvent>) -> Result<(), Status> {
    let request = PublishLifecycleEventRequest { build_event, ..Default::default() };
    PublishBuildEventClient::new(grid.channel.clone()).publish_lifecycle_event(request).await.map(|_| ())
}

async fn query(grid: &Grid, pattern: &str) -> Result<Vec<Vec<i64>>, Status> {
    let request = QueryEventStreamsRequest { build_id_pattern: pattern.into() };
    let answer = QueryBuildEventsClient::new(grid.channel.clone()).query_event_streams(request).await?;
    let numbers = |events: Vec<OrderedBuildEvent>| events.iter().map(|e| e.sequence_number).collect();
    Ok(answer.into_inner().streams.into_iter().map(|s| numbers(s.events)).collect())
}

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "events are acknowledged in order and kept", |grid| async move {
            let events = (1..=500).map(|n| event("b1001", n)).collect();
            let expected: Vec<i64> = (1..=500).collect();
            assert_eq!(publish(&grid, events).await.unwrap(), expected);
            assert_eq!(query(&grid, "^b1001\\.3\\.i$").await.unwrap(), [expected]);
        }),
        accepts(
            SOURCE,
            "a stream goes on on another replica, and what is sent again is acknowledged again",
            |grid| async move {
                publish(&grid, (1..=3).map(|n| event("b1002", n)).collect()).await.unwrap();
                let other = grid.other_replica();
                let again = (2..=5).map(|n| event("b1002", n)).collect();
                assert_eq!(publish(&other, again).await.unwrap(), [2, 3, 4, 5]);
                assert_eq!(query(&grid, "b1002").await.unwrap(), [[1, 2, 3, 4, 5]]);
            },
        ),
        accepts(SOURCE, "lifecycle events are kept", |grid| async move {
            lifecycle(&grid, Some(event("b1003", 1))).await.unwrap();
            lifecycle(&grid, Some(event("b1003", 1))).await.unwrap();
            assert_eq!(query(&grid, "b1003").await.unwrap(), [[1]]);
        }),
        accepts(
            "BES check_preceding_lifecycle_events_present",
            "events in the order of a build's life are taken",
            |grid| async move {
                let life = |invocation, number, event| of_life("b1010", invocation, number, event);
                checked(&grid, life("", 1, Event::BuildEnqueued(BuildEnqueued::default()))).await.unwrap();
                let started = Event::InvocationAttemptStarted(InvocationAttemptStarted::default());
                checked(&grid, life("i", 1, started)).await.unwrap();
                checked_tool(&grid.other_replica(), event("b1010", 1)).await.unwrap();
                let ended = Event::InvocationAttemptFinished(InvocationAttemptFinished::default());
                checked(&grid, life("i", 2, ended)).await.unwrap();
                checked(&grid, life("", 2, Event::BuildFinished(BuildFinished::default()))).await.unwrap();
            },
        ),
        refuses(
            "BES check_preceding_lifecycle_events_present",
            "events whose leading ones are missing are FAILED_PRECONDITION and not kept",
            |grid| async move {
                let life = |invocation, number, event| of_life("b1011", invocation, number, event);
                let started = Event::InvocationAttemptStarted(InvocationAttemptStarted::default());
                refused(checked(&grid, life("i", 1, started)).await, Code::FailedPrecondition);
                refused(checked_tool(&grid, event("b1011", 1)).await, Code::FailedPrecondition);
                let ended = Event::InvocationAttemptFinished(InvocationAttemptFinished::default());
                refused(checked(&grid, life("i", 2, ended)).await, Code::FailedPrecondition);
                let finished = Event::BuildFinished(BuildFinished::default());
                refused(checked(&grid, life("", 2, finished)).await, Code::FailedPrecondition);
                assert!(query(&grid, "b1011").await.unwrap().is_empty());
            },
        ),
        accepts(SOURCE, "identifiers with dots name streams of their own", |grid| async move {
            let named = |build: &str, invocation: &str| {
                let stream_id =
                    StreamId { build_id: build.into(), invocation_id: invocation.into(), component: 3 };
                OrderedBuildEvent { stream_id: Some(stream_id), ..event("", 1) }
            };
            publish(&grid, vec![named("b1012.3.x", "y")]).await.unwrap();
            publish(&grid, vec![named("b1012", "x.3.y")]).await.unwrap();
            assert_eq!(query(&grid, "^b1012\\.3\\.x\\.3\\.y$").await.unwrap(), [[1], [1]]);
        }),
        accepts("BuildGrid QueryBuildEvents", "the events of a large build are given", |grid| async move {
            let large = |n| {
                let tool = BuildEvent {
                    event: Some(Event::BazelEvent(prost_types::Any {
                        type_url: "x".into(),
                        value: vec![7; 1 << 20],
                    })),
                    ..Default::default()
                };
                OrderedBuildEvent { event: Some(tool), ..event("b1013", n) }
            };
            publish(&grid, (1..=6).map(large).collect()).await.unwrap();
            let request = QueryEventStreamsRequest { build_id_pattern: "^b1013".into() };
            let mut client =
                QueryBuildEventsClient::new(grid.channel.clone()).max_decoding_message_size(64 << 20);
            let streams = client.query_event_streams(request).await.unwrap().into_inner().streams;
            assert_eq!(streams[0].events.len(), 6);
        }),
        refuses("bounded streams", "a stream of events above its limit is refused", |grid| async move {
            let value = vec![7; 3 << 20];
            let mut published = Ok(Vec::new());
            for n in 1..=7 {
                let any = prost_types::Any { type_url: "x".into(), value: value.clone() };
                let tool = BuildEvent { event: Some(Event::BazelEvent(any)), ..Default::default() };
                let event = OrderedBuildEvent { event: Some(tool), ..event("b1014", n) };
                published = publish(&grid, vec![event]).await;
                assert_eq!(published.is_ok(), n * (3 << 20) < EVENTS_BYTES as i64, "{n}");
            }
            refused(published, Code::ResourceExhausted);
        }),
        refuses(SOURCE, "a lifecycle event of another kind is refused", |grid| async move {
            let other =
                Some(BuildEvent { event: Some(Event::BazelEvent(Default::default())), ..Default::default() });
            let bad = OrderedBuildEvent { event: other, ..event("b1004", 1) };
            refused(lifecycle(&grid, Some(bad)).await, Code::InvalidArgument);
            refused(lifecycle(&grid, None).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "events without a stream or with a number below 1 are refused", |grid| async move {
            for bad in
                [OrderedBuildEvent { stream_id: None, ..event("b1005", 1) }, event("", 1), event("b1005", 0)]
            {
                refused(publish(&grid, vec![bad]).await, Code::InvalidArgument);
            }
            assert!(query(&grid, "b1005").await.unwrap().is_empty());
        }),
        refuses(SOURCE, "a gap in the numbers and a change of the stream are refused", |grid| async move {
            refused(publish(&grid, vec![event("b1006", 1), event("b1006", 3)]).await, Code::InvalidArgument);
            refused(publish(&grid, vec![event("b1006", 2), event("b1007", 3)]).await, Code::InvalidArgument);
            assert!(query(&grid, "b1007").await.unwrap().is_empty());
        }),
        refuses(
            "BuildGrid QueryBuildEvents",
            "patterns that are none or need too much are refused",
            |grid| async move {
                for bad in ["(", "(a{1000}){1000}"] {
                    refused(query(&grid, bad).await, Code::InvalidArgument);
                }
            },
        ),
    ]
}
