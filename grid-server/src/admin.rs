//! The admin address: `/metrics`, `/healthz`, `/readyz` over plain HTTP; never for clients.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use grid_telemetry::Metrics;
use tokio::net::TcpListener;

use crate::readiness::Readiness;

#[derive(Clone, Debug)]
struct Shown {
    metrics: Metrics,
    readiness: Readiness,
}

/// Serves the three paths until it is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(Shown { metrics, readiness });
    axum::serve(listener, router).await
}

async fn show_metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, Metrics::content_type())], shown.metrics.encode())
}

async fn show_readiness(State(shown): State<Shown>) -> impl IntoResponse {
    let status = if shown.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", shown.readiness.describe()))
}
