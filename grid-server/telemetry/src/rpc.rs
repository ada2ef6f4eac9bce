//! [`RpcMetrics`]: counts calls, how they end and how long they take.
//!
//! A call lasts until the last byte of its answer left, or its client went away. Its status is read off the answer's
//! trailers; nothing of its messages is looked at. Paths that no service of ours has are counted together, so that clients
//! can't fill the registry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use grid_core::{CallInstance, ServedCall};
use http::{HeaderMap, Request, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::Metrics;
use crate::bus::Bus;
use crate::published::{self, Called, Told};
use crate::watched::{Watch, Watched};

/// The names of gRPC's codes, by number, as Prometheus metrics of gRPC servers label them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rpc {
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
    grid_instance: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Took {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grid_instance: String,
}

#[derive(Clone, Debug)]
struct Families {
    started: Family<Rpc, Counter>,
    handled: Family<Handled, Counter>,
    in_flight: Family<Rpc, Gauge>,
    seconds: Family<Took, Histogram, fn() -> Histogram>,
    bus: Option<Bus>,
    /// How many calls there are, as far as the bus is to know.
    ongoing: Arc<AtomicU64>,
}

/// What counts calls, for [`crate::watched::Watching`].
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    families: Families,
    known: Arc<HashMap<&'static str, Rpc>>,
}

fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 12))
}

impl RpcMetrics {
    /// Counters in a registry. `paths` are those of the methods that there are, as
    /// `/package.Service/Method`.
    #[must_use]
    pub fn new(metrics: &Metrics, paths: impl IntoIterator<Item = &'static str>, bus: Option<Bus>) -> Self {
        let families = Families {
            started: Family::default(),
            handled: Family::default(),
            in_flight: Family::default(),
            seconds: Family::new_with_constructor(call_seconds),
            bus,
            ongoing: Arc::default(),
        };
        metrics.register("rpc_started", "Calls that came in", &families.started);
        metrics.register("rpc_handled", "Calls that ended, by their code", &families.handled);
        metrics.register("rpc_in_flight", "Calls that are not over", &families.in_flight);
        metrics.register("rpc_seconds", "How long calls took, streaming included", &families.seconds);
        let known = paths.into_iter().filter_map(|path| Some((path, rpc(path)?))).collect();
        Self { families, known: Arc::new(known) }
    }
}

fn rpc(path: &'static str) -> Option<Rpc> {
    let (grpc_service, grpc_method) = path.strip_prefix('/')?.split_once('/')?;
    Some(Rpc { grpc_service, grpc_method })
}

impl Watch for RpcMetrics {
    type Call = Call;

    fn begin<B>(&self, request: &mut Request<B>) -> Option<Call> {
        const OTHER: Rpc = Rpc { grpc_service: "other", grpc_method: "other" };
        let rpc = self.known.get(request.uri().path()).copied().unwrap_or(OTHER);
        let instance = CallInstance::default();
        request.extensions_mut().insert(instance.clone());
        let call = Call::start(self.families.clone(), rpc, instance);
        if let Some((served, _)) = &call.served {
            request.extensions_mut().insert(served.clone());
        }
        Some(call)
    }
}

/// One call, from its start until this is dropped.
#[derive(Debug)]
pub struct Call {
    families: Families,
    rpc: Rpc,
    instance: CallInstance,
    started: Instant,
    code: Option<&'static str>,
    sent: u64,
    /// What the bus is told of the call, where there is one.
    served: Option<(ServedCall, Arc<Told>)>,
}

impl Call {
    fn start(families: Families, rpc: Rpc, instance: CallInstance) -> Self {
        families.started.get_or_create(&rpc).inc();
        families.in_flight.get_or_create(&rpc).inc();
        let served = families.bus.as_ref().map(|bus| {
            let ongoing = families.ongoing.fetch_add(1, Ordering::Relaxed) + 1;
            published::begun(bus, rpc.grpc_service, rpc.grpc_method, ongoing);
            let told = Arc::new(Told::new(bus.clone()));
            let call = ServedCall {
                service: rpc.grpc_service,
                method: rpc.grpc_method,
                instance: instance.clone(),
                observer: Arc::clone(&told) as _,
            };
            (call, told)
        });
        Self { families, rpc, instance, started: Instant::now(), code: None, sent: 0, served }
    }
}

impl Watched for Call {
    fn answered(&mut self, _: StatusCode, headers: &HeaderMap) {
        self.trailers(headers);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = code(trailers).or(self.code);
    }

    fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.served {
            Some((call, _)) => call.enter(work),
            None => work(),
        }
    }
}

/// The name of the gRPC status in headers or trailers, where they have one.
pub(crate) fn code(headers: &HeaderMap) -> Option<&'static str> {
    let number = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse::<usize>().ok());
    Some(number.and_then(|number| CODES.get(number).copied()).unwrap_or("Unknown"))
}

impl Drop for Call {
    fn drop(&mut self) {
        let Rpc { grpc_service, grpc_method } = self.rpc;
        let grpc_code = self.code.unwrap_or("Canceled");
        let grid_instance = self.instance.label().to_owned();
        let took = self.started.elapsed();
        self.families.in_flight.get_or_create(&self.rpc).dec();
        let of = Took { grpc_service, grpc_method, grid_instance: grid_instance.clone() };
        self.families.seconds.get_or_create(&of).observe(took.as_secs_f64());
        if let (Some(bus), Some((_, told))) = (&self.families.bus, &self.served) {
            self.families.ongoing.fetch_sub(1, Ordering::Relaxed);
            let call = Called {
                service: grpc_service,
                method: grpc_method,
                code: grpc_code,
                instance: &grid_instance,
                took,
                sent: self.sent,
                received: told.received(),
                authorized: told.authorized(),
            };
            published::called(bus, &call);
        }
        let handled = Handled { grpc_service, grpc_method, grpc_code, grid_instance };
        self.families.handled.get_or_create(&handled).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Empty, StreamBody};
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;
    use crate::watched::Watching;

    const PATH: &str = "/test.Service/Method";

    async fn counted(path: &str, status: Option<&'static str>, read: bool) -> String {
        let metrics = Metrics::default();
        let layer = RpcMetrics::new(&metrics, [PATH], None);
        let answer = service_fn(move |_: Request<Empty<bytes::Bytes>>| async move {
            let trailers = status.map(|status| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                Ok::<_, Infallible>(Frame::<bytes::Bytes>::trailers(trailers))
            });
            let body = StreamBody::new(futures::stream::iter(trailers));
            Ok::<_, Infallible>(Response::new(body))
        });
        let service = ServiceBuilder::new().layer(Watching(layer)).service(answer);
        let response =
            service.oneshot(Request::builder().uri(path).body(Empty::new()).unwrap()).await.unwrap();
        if read {
            response.into_body().collect().await.unwrap();
        } else {
            assert!(
                metrics
                    .encode()
                    .contains("rpc_in_flight{grpc_service=\"test.Service\",grpc_method=\"Method\"} 1")
            );
            drop(response);
        }
        metrics.encode()
    }

    #[tokio::test]
    async fn a_call_ends_with_the_code_of_its_trailers() {
        let text = counted(PATH, Some("5"), true).await;
        let line = "grid_rpc_handled_total{grpc_service=\"test.Service\",grpc_method=\"Method\",grpc_code=\"NotFound\",grid_instance=\"\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("rpc_in_flight{grpc_service=\"test.Service\",grpc_method=\"Method\"} 0"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_call_whose_client_left_is_cancelled() {
        let text = counted(PATH, None, false).await;
        assert!(text.contains("grpc_code=\"Canceled\",grid_instance=\"\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn paths_that_nobody_serves_are_counted_together() {
        let text = counted("/evil.Service/Random", Some("12"), true).await;
        let line = "grid_rpc_handled_total{grpc_service=\"other\",grpc_method=\"other\",grpc_code=\"Unimplemented\",grid_instance=\"\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("evil"));
    }
}
