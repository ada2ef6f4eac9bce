//! The admin port: /metrics, /healthz, /readyz. Plain HTTP, for the cluster's own eyes.
//!
//! `/healthz` says that the process lives; `/readyz` that the worker takes work. An unhealthy worker isn't
//! restarted for it: what ails it (its disk, its runner) a restart wouldn't heal.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bot::Fate;
use crate::metrics::Metrics;

/// Starts serving; gives the address that it listens on.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn start(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    fate: watch::Receiver<Fate>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("--admin {address}"))?;
    let bound = listener.local_addr()?;
    let ready = move || {
        let answer = match &*fate.borrow() {
            Fate::Healthy => (StatusCode::OK, "ready\n".to_owned()),
            Fate::Unhealthy(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("unhealthy: {why}\n")),
            Fate::Leaving { .. } | Fate::GivingBack => {
                (StatusCode::SERVICE_UNAVAILABLE, "leaving\n".to_owned())
            }
        };
        std::future::ready(answer)
    };
    let text = move || std::future::ready(metrics.text());
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(|| std::future::ready("alive\n")))
        .route("/readyz", get(ready));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin port is lost");
        }
    });
    Ok(bound)
}
