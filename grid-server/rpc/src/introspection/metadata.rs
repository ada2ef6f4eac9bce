//! `ListRequestMetadata` and `GetRequestMetadataSummary`: what clients told of their requests, by value.

use grid_core::Timestamp;
use grid_proto::buildgrid::{
    GetRequestMetadataSummaryRequest, ListRequestMetadataRequest, ListRequestMetadataResponse,
    RequestMetadataSummary,
};
use grid_scheduler::metadata::{METADATA_FIELDS, MetadataField, SummaryQuery, ValuesQuery};
use tonic::Status;

use super::Page;
use crate::error::status;
use crate::execution::ExecutionInstance;
use crate::execution::render::timestamp;
use crate::{RpcError, metadata};

/// How much different metadata a summary tells at most: that of a tool's every target is told by nobody's screen.
const TOLD: u32 = 1_000;

/// One page of a field's values, in order.
pub(super) async fn list(
    name: &str,
    instance: &ExecutionInstance,
    request: ListRequestMetadataRequest,
) -> Result<ListRequestMetadataResponse, Status> {
    let page = Page::of(request.page, request.page_size)?;
    let query = ValuesQuery {
        instance: name.to_owned(),
        field: field(&request.field)?,
        part: request.pattern,
        skip: page.skipped(),
        limit: page.size,
    };
    let found = instance.scheduler.metadata_values(&query).await.map_err(status)?;
    Ok(ListRequestMetadataResponse {
        page: wire(page.number.into()),
        page_size: wire(page.size.into()),
        total: wire(found.total),
        values: found.values,
    })
}

/// What became of the operations with a value.
pub(super) async fn summary(
    name: &str,
    instance: &ExecutionInstance,
    request: GetRequestMetadataSummaryRequest,
) -> Result<RequestMetadataSummary, Status> {
    let query = SummaryQuery {
        instance: name.to_owned(),
        field: field(&request.field)?,
        value: request.value,
        limit: TOLD,
    };
    let found = instance.scheduler.metadata_summary(&query).await.map_err(status)?;
    let took =
        |(first, last): (Timestamp, Timestamp)| prost_types::Duration::try_from(last.since(first)).ok();
    Ok(RequestMetadataSummary {
        request_metadata: found.metadata.iter().map(metadata::to_wire).collect(),
        first_in_queue: found.first_queued.map(timestamp),
        last_completed: found.last_completed.map(timestamp),
        total_duration: found.first_queued.zip(found.last_completed).and_then(took),
        queued_operation_count: wire(found.queued),
        executing_operation_count: wire(found.executing),
        completed_operation_count: wire(found.completed),
        total_operation_count: wire(found.queued + found.executing + found.completed),
    })
}

fn field(name: &str) -> Result<MetadataField, Status> {
    let known = METADATA_FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
    known.ok_or_else(|| {
        let names = METADATA_FIELDS.map(|(name, _)| name).join(", ");
        status(RpcError::field("field", format!("{name:?} is none of {names}")))
    })
}

fn wire(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
