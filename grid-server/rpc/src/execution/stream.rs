//! A client's stream: what is known at once, then each change, and a repetition where nothing changes for long.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use grid_core::CallTrace;
use grid_proto::longrunning::Operation;
use grid_scheduler::Watch;
use tokio::time::timeout;
use tonic::Status;

use super::instance::ExecutionInstance;
use super::render::{self, Inline};
use super::{metering, trace};

/// The stream of a watch; it ends with the operation. A client that hangs up cancels nothing (REAPI, `Execute`).
pub(super) fn watch(
    instance: Arc<ExecutionInstance>,
    mut watch: Watch,
    inline: Inline,
    trace: Option<CallTrace>,
) -> BoxStream<'static, Result<Operation, Status>> {
    async_stream::stream! {
        loop {
            let view = watch.view();
            let browser = instance.action_browser_url.as_deref();
            let mut operation = render::waiting(
                &watch.operation,
                &view.job,
                view.cancelled,
                browser,
                view.waiting.as_deref(),
            );
            if view.is_final() {
                let function = view.job.spec.action_digest.function();
                render::inline(&instance, function, &inline, &mut operation).await;
                if let Some(trace) = &trace {
                    trace::note(trace, &operation);
                }
                metering::note(&instance, &watch.operation, function, &operation);
                yield Ok(operation);
                return;
            }
            yield Ok(operation);
            // News or the keepalive's end: either way the client hears how it stands.
            let _ = timeout(instance.operation_stream_keepalive, watch.changed()).await;
        }
    }
    .boxed()
}
