//! Calls, and what they tell of themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grid_core::{CallEvent, CallObserver, Step};
use parking_lot::Mutex;

use super::{Tags, float, milliseconds, send, timer};
use crate::bus::{Bus, Value};

/// What a call did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called<'a> {
    /// The full name of the service.
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    /// The gRPC code, in Prometheus's spelling.
    pub(crate) code: &'static str,
    pub(crate) instance: &'a str,
    pub(crate) took: Duration,
    /// The bytes of its answer.
    pub(crate) sent: u64,
    /// The bytes of its request that were read.
    pub(crate) received: u64,
    /// How long it took to know the caller and what they may do, where that was asked.
    pub(crate) authorized: Option<Duration>,
}

/// Publishes how many calls there are, one that begins included.
pub(crate) fn begun(bus: &Bus, service: &'static str, method: &'static str, ongoing: u64) {
    let tags = vec![("serviceName", short(service).into()), ("method", method.into())];
    send(bus, "rpc.ongoing_requests.count", Value::Distribution(float(ongoing)), tags);
}

/// Publishes a call that ended.
pub(crate) fn called(bus: &Bus, call: &Called<'_>) {
    let tags: Tags = vec![
        ("serviceName", short(call.service).into()),
        ("method", call.method.into()),
        ("status", status(call.code).into()),
        ("instanceName", call.instance.to_owned().into()),
    ];
    send(bus, "rpc.duration.ms", Value::Time(call.took), tags.clone());
    send(bus, "rpc.input_bytes.count", Value::Count(call.received), tags.clone());
    send(bus, "rpc.output_bytes.count", Value::Count(call.sent), tags.clone());
    if let Some(took) = call.authorized {
        send(bus, "rpc.auth.duration.ms", Value::Time(took), tags);
    }
}

/// Hears what one call tells of itself: publishes it, or adds it up for the call's end.
#[derive(Debug)]
pub(crate) struct Told {
    bus: Bus,
    received: AtomicU64,
    authorized: Mutex<Option<Duration>>,
}

impl Told {
    pub(crate) const fn new(bus: Bus) -> Self {
        Self { bus, received: AtomicU64::new(0), authorized: Mutex::new(None) }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn authorized(&self) -> Option<Duration> {
        *self.authorized.lock()
    }
}

impl CallObserver for Told {
    fn event(&self, event: CallEvent) {
        match event {
            CallEvent::Received(bytes) => drop(self.received.fetch_add(bytes, Ordering::Relaxed)),
            CallEvent::Authorized(took) => {
                let mut authorized = self.authorized.lock();
                *authorized = Some(authorized.unwrap_or_default().saturating_add(took));
            }
            CallEvent::ResultAge(age) => {
                send(&self.bus, "action_cache.result_age.ms", milliseconds(age), Vec::new());
            }
            CallEvent::Step { step, took, error } => timer(&self.bus, name(step), took, error, Vec::new()),
        }
    }
}

const fn name(step: Step) -> &'static str {
    match step {
        Step::GetTree => "storage.get_tree.duration.ms",
        Step::Split => "storage.split.duration.ms",
        Step::Splice => "storage.splice.duration.ms",
        Step::SpliceVerify => "storage.splice.verify.duration.ms",
        Step::GetThrottling => "metering.get_throttling.duration.ms",
        Step::PutUsage => "metering.put_usage.duration.ms",
    }
}

/// A service as BuildGrid tags it: without its package.
pub(crate) fn short(service: &'static str) -> &'static str {
    service.rsplit('.').next().unwrap_or(service)
}

/// A gRPC code as BuildGrid tags it, from its spelling in Prometheus.
fn status(code: &'static str) -> &'static str {
    match code {
        "Canceled" => "CANCELLED",
        "InvalidArgument" => "INVALID_ARGUMENT",
        "DeadlineExceeded" => "DEADLINE_EXCEEDED",
        "NotFound" => "NOT_FOUND",
        "AlreadyExists" => "ALREADY_EXISTS",
        "PermissionDenied" => "PERMISSION_DENIED",
        "ResourceExhausted" => "RESOURCE_EXHAUSTED",
        "FailedPrecondition" => "FAILED_PRECONDITION",
        "Aborted" => "ABORTED",
        "OutOfRange" => "OUT_OF_RANGE",
        "Unimplemented" => "UNIMPLEMENTED",
        "Internal" => "INTERNAL",
        "Unavailable" => "UNAVAILABLE",
        "DataLoss" => "DATA_LOSS",
        "Unauthenticated" => "UNAUTHENTICATED",
        "OK" => "OK",
        _ => "UNKNOWN",
    }
}
