//! What an action used: taken from what its worker measured, and shown to clients in a form that they can print.
//!
//! Workers of Buildbarn's kind, ours among them, put a `POSIXResourceUsage` into the result's auxiliary metadata;
//! BuildBox's put the digest of a stored `ExecutionStatistics` there. Clients that print results as JSON fail at an
//! `Any` whose message they don't know, and every REAPI client knows a digest: so results go on with BuildBox's form.

use std::time::Duration;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_proto::any;
use grid_proto::buildbox::ExecutionStatistics;
use grid_proto::buildbox::execution_statistics::ProcessResourceUsage;
use grid_proto::reapi::{self, ActionResult};
use grid_proto::resourceusage::PosixResourceUsage;
use grid_scheduler::history::Usage;
use prost::Message;
use prost_types::Any;

use crate::digests;
use crate::execution::ExecutionInstance;

/// Statistics are larger than this in no client; a digest of more leads to something else.
const MAX_STATISTICS: u64 = 4 << 10;

/// A blob that a result names and that is still to be stored.
pub(super) type Statistics = (Digest, Bytes);

/// What the worker measured; a message that only Buildbarn's clients know gives way to the digest of BuildBox's, which
/// is to be stored.
pub(super) async fn settle(
    instance: &ExecutionInstance,
    function: DigestFunction,
    result: &mut ActionResult,
) -> (Usage, Option<Statistics>) {
    let Some(metadata) = result.execution_metadata.as_mut() else { return (Usage::default(), None) };
    let sent = &mut metadata.auxiliary_metadata;
    let Some(place) = sent.iter().position(any::is::<PosixResourceUsage>) else {
        let read = read(instance, function, sent).await;
        return (read.as_ref().map(usage).unwrap_or_default(), None);
    };
    let measured = any::unpack::<PosixResourceUsage>(&sent.remove(place)).unwrap_or_default();
    let statistics = statistics(&measured);
    let content = Bytes::from(any::pack(&statistics).encode_to_vec());
    let digest = Digest::of(function, &content);
    sent.insert(place, any::pack(&digests::to_wire(&digest)));
    (usage(&statistics), Some((digest, content)))
}

/// Stores statistics. A result stands without them.
pub(super) async fn store(instance: &ExecutionInstance, statistics: Option<Statistics>) {
    let Some(statistics) = statistics else { return };
    for stored in instance.storage.write_batch(vec![statistics]).await {
        if let Err(error) = stored {
            tracing::debug!(%error, "an action's statistics were not stored");
        }
    }
}

/// The statistics that BuildBox's workers stored.
pub(crate) async fn read(
    instance: &ExecutionInstance,
    function: DigestFunction,
    sent: &[Any],
) -> Option<ExecutionStatistics> {
    let named = sent.iter().find_map(|sent| any::unpack::<reapi::Digest>(sent).ok())?;
    let digest = Digest::parse(function, &named.hash, named.size_bytes).ok()?;
    let content = match digest.size() {
        size if size <= MAX_STATISTICS => instance.storage.read_batch(&[digest]).await.pop()?.ok()?,
        _ => return None,
    };
    any::unpack(&Any::decode(content).ok()?).ok()
}

fn statistics(measured: &PosixResourceUsage) -> ExecutionStatistics {
    let usage = ProcessResourceUsage {
        utime: measured.user_time,
        stime: measured.system_time,
        maxrss: measured.maximum_resident_set_size / 1024,
        minflt: measured.page_reclaims,
        majflt: measured.page_faults,
        inblock: measured.block_input_operations,
        oublock: measured.block_output_operations,
        nvcsw: measured.voluntary_context_switches,
        nivcsw: measured.involuntary_context_switches,
    };
    ExecutionStatistics { command_rusage: Some(usage) }
}

fn usage(statistics: &ExecutionStatistics) -> Usage {
    let Some(usage) = &statistics.command_rusage else { return Usage::default() };
    let time = |time: Option<prost_types::Duration>| {
        time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default()
    };
    let memory = u64::try_from(usage.maxrss).unwrap_or(0).saturating_mul(1024);
    Usage { cpu: time(usage.utime).saturating_add(time(usage.stime)), memory }
}
