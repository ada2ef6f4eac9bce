//! What each layer before the services adds to a call: metrics, the span that log lines get, and a token that was seen before.
//!
//! Each is put around a service that does nothing, in this process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use grid_rpc::auth::jwks::Keys;
use grid_rpc::auth::jwt::JwtAuthenticator;
use grid_rpc::auth::layer::{AuthLayer, AuthOptions};
use grid_rpc::spans::CallSpans;
use grid_telemetry::Metrics;
use grid_telemetry::logs::{self, LogFormat};
use grid_telemetry::rpc::RpcMetrics;
use grid_telemetry::traces::Traces;
use grid_telemetry::watched::Watching;
use http_body_util::BodyExt as _;
use jsonwebtoken::{Algorithm, DecodingKey};
use tonic::body::Body;
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};

use crate::servers::processor_time;

const CALLS: u32 = 400_000;
const PATH: &str = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";

/// Prints what each layer costs, in microseconds of processor time a call, and which part that is of `whole`, a call of ours,
/// where that was measured.
pub(crate) async fn measure(token: &str, key: &str, whole: Option<f64>) {
    logs::init(LogFormat::Json, false).expect("nothing logs yet");
    let nothing = service_fn(|_: http::Request<Body>| async {
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    let around = || ServiceBuilder::new();
    let metrics = RpcMetrics::new(&Metrics::default(), [PATH], None);
    let key = Keys::Fixed(Arc::new(DecodingKey::from_secret(key.as_bytes())));
    let authenticator = JwtAuthenticator::new(key, Algorithm::HS256, &[]);
    let auth = AuthLayer::new(AuthOptions {
        authenticators: vec![Arc::new(authenticator)],
        ..AuthOptions::default()
    });
    let bare = cost(nothing, token).await;
    let costs = [
        ("metrics", cost(around().layer(Watching(metrics)).service(nothing), token).await),
        ("traces that are off", cost(around().layer(Watching(Traces::off())).service(nothing), token).await),
        ("a span", cost(around().layer(CallSpans).service(nothing), token).await),
        ("a token that was seen before", cost(around().layer(auth).service(nothing), token).await),
    ];
    println!("\n| layer | µs of processor time a call | of a GetActionResult |\n|---|---|---|");
    let mut all = 0.0;
    for (name, cost) in costs {
        let added = micros(cost.saturating_sub(bare));
        all += added;
        println!("| {name} | {added:.2} | {} |", share(added, whole));
    }
    println!("| all of them | {all:.2} | {} |", share(all, whole));
}

fn share(part: f64, whole: Option<f64>) -> String {
    whole.map(|whole| format!("{:.1} %", part / whole * 100.0)).unwrap_or_default()
}

fn micros(all: Duration) -> f64 {
    all.as_secs_f64() * 1e6 / f64::from(CALLS)
}

/// The processor time of so many calls, one after the other.
async fn cost<S, B>(service: S, token: &str) -> Duration
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible> + Clone,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let before = processor_time("self");
    let bearer = format!("Bearer {token}");
    for _ in 0..CALLS {
        let request = http::Request::post(PATH).header("authorization", &bearer).body(Body::empty());
        let answer = service.clone().oneshot(request.expect("a request")).await.expect("an answer");
        answer.into_body().collect().await.expect("a body");
    }
    processor_time("self") - before
}
