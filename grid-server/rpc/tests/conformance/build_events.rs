//! The Build Event Service, and BuildGrid's `QueryBuildEvents`.

use grid_proto::buildevents::build_event::{BuildEnqueued, Event};
use grid_proto::buildevents::publish_build_event_client::PublishBuildEventClient;
use grid_proto::buildevents::{
    BuildEvent, OrderedBuildEvent, PublishBuildToolEventStreamRequest, PublishLifecycleEventRequest, StreamId,
};
use grid_proto::buildgrid::QueryEventStreamsRequest;
use grid_proto::buildgrid::query_build_events_client::QueryBuildEventsClient;
use tonic::{Code, Status};

use crate::grid::{Grid, refused};
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
