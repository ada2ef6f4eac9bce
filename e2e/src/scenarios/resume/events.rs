//! A build event stream that goes on on another replica.

use anyhow::{Context, Result, ensure};
use grid_proto::buildevents::build_event::{BuildEnqueued, Event};
use grid_proto::buildevents::publish_build_event_client::PublishBuildEventClient;
use grid_proto::buildevents::{BuildEvent, OrderedBuildEvent, PublishBuildToolEventStreamRequest, StreamId};
use grid_proto::buildgrid::QueryEventStreamsRequest;
use grid_proto::buildgrid::query_build_events_client::QueryBuildEventsClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Replicas;
use crate::remote::{Remote, was_cut};

const BUILD: &str = "build-resumed";
/// The last event that is acknowledged before the cut.
const CUT: i64 = 50;
/// The first that is sent again.
const AGAIN: i64 = 45;
const LAST: i64 = 100;

/// Publishes half of a build's events, kills the replica that takes them, and publishes the rest with some of those again.
///
/// # Errors
/// Where an event is not acknowledged in its turn, or is kept twice or not at all.
pub(super) fn published(remote: &Remote, replicas: &Replicas<'_>) -> Result<()> {
    let (events, receiver) = mpsc::channel(4);
    let mut client = PublishBuildEventClient::new(remote.channel.clone());
    let mut acknowledged = remote
        .runtime
        .block_on(async {
            for number in 1..=4 {
                events.send(event(number)).await?;
            }
            anyhow::Ok(client.publish_build_tool_event_stream(ReceiverStream::new(receiver)).await?)
        })?
        .into_inner();
    remote.runtime.block_on(async {
        for number in 1..=CUT {
            if number > 4 {
                events.send(event(number)).await?;
            }
            let answer = acknowledged.message().await?.context("the stream ended by itself")?;
            ensure!(answer.sequence_number == number, "{number} was acknowledged as {answer:?}");
        }
        Ok(())
    })?;
    replicas.kill_busy("execution", "PublishBuildToolEventStream")?;
    // Traefik tells of a cut only when it has something to pass on: what comes next, or the end.
    drop(events);
    match remote.runtime.block_on(acknowledged.message()) {
        Ok(answer) => anyhow::bail!("the stream went on without its server: {answer:?}"),
        Err(status) => ensure!(was_cut(&status), "the stream was refused: {status}"),
    }
    let numbers = remote.retried("PublishBuildToolEventStream", async || {
        let rest = tokio_stream::iter((AGAIN..=LAST).map(event).collect::<Vec<_>>());
        let mut client = PublishBuildEventClient::new(remote.channel.clone());
        let mut answers = client.publish_build_tool_event_stream(rest).await?.into_inner();
        let mut numbers = Vec::new();
        while let Some(answer) = answers.message().await? {
            numbers.push(answer.sequence_number);
        }
        Ok(numbers)
    })?;
    ensure!(numbers.iter().copied().eq(AGAIN..=LAST), "acknowledged out of turn: {numbers:?}");
    let kept = remote.retried("QueryEventStreams", async || {
        let request = QueryEventStreamsRequest { build_id_pattern: BUILD.to_owned() };
        let answer = QueryBuildEventsClient::new(remote.channel.clone()).query_event_streams(request).await?;
        Ok(answer.into_inner().streams)
    })?;
    let numbers: Vec<i64> = kept.iter().flat_map(|s| &s.events).map(|e| e.sequence_number).collect();
    ensure!(numbers.iter().copied().eq(1..=LAST), "these events are kept: {numbers:?}");
    println!("    build events: cut after {CUT}, sent again from {AGAIN}, each of {LAST} kept once");
    replicas.wait_for_both("execution")
}

/// An event of one build.
pub(crate) fn event(sequence_number: i64) -> PublishBuildToolEventStreamRequest {
    let stream_id = StreamId { build_id: BUILD.to_owned(), invocation_id: "i".to_owned(), component: 3 };
    let event =
        BuildEvent { event: Some(Event::BuildEnqueued(BuildEnqueued::default())), ..Default::default() };
    let ordered = OrderedBuildEvent { stream_id: Some(stream_id), sequence_number, event: Some(event) };
    PublishBuildToolEventStreamRequest { ordered_build_event: Some(ordered), ..Default::default() }
}
