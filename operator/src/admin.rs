//! `/metrics`, `/healthz` and `/readyz` over plain HTTP. A replica that only waits to lead is ready too.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use grid_operator_apply::Leadership;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Serves until `shutdown`.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("--admin {address} can't be used"))?;
    let readiness = shutdown.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || {
                let ending = readiness.is_cancelled();
                async move {
                    if ending {
                        (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
                    } else {
                        (StatusCode::OK, "ok\n")
                    }
                }
            }),
        )
        .route("/metrics", get(move || async move { metrics_text(&metrics, &leadership) }));
    axum::serve(listener, app).with_graceful_shutdown(async move { shutdown.cancelled().await }).await?;
    Ok(())
}

fn metrics_text(metrics: &Metrics, leadership: &Leadership) -> axum::response::Response {
    match metrics.text(leadership) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
