//! The admin port: /metrics, /healthz, /readyz. Plain HTTP, for the cluster's own eyes.
//!
//! `/healthz` says that the process lives; `/readyz` that the worker is well, and in a line
//! what it does: takes work, drains and for how long, leaves, or what ails it. An unhealthy worker isn't
//! restarted for it: what ails it (its disk, its runner) a restart wouldn't heal.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bot::{Drain, Fate};
use crate::metrics::Metrics;

/// Starts serving; gives the address that it listens on.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn start(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    fate: watch::Receiver<Fate>,
    drain: watch::Receiver<Option<Drain>>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("--admin {address}"))?;
    let bound = listener.local_addr()?;
    let ready = move || {
        let (is_well, said) = standing(&fate.borrow(), *drain.borrow());
        let code = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        std::future::ready((code, format!("{said}\n")))
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

/// Whether the worker is well, and what it does. One that the grid drains is well: what keeps an eye on pods shall not
/// take it for broken.
fn standing(fate: &Fate, drain: Option<Drain>) -> (bool, String) {
    match (fate, drain) {
        (Fate::Leaving { .. } | Fate::GivingBack, _) => (false, "leaving".to_owned()),
        (Fate::Unhealthy(why), _) => (false, format!("unhealthy: {why}")),
        (Fate::Healthy, Some(Drain { leases: 0, .. })) => {
            (true, "drained: nothing runs, it may be stopped".to_owned())
        }
        (Fate::Healthy, Some(drain)) => {
            (true, format!("draining: {} leases have {} s left", drain.leases, drain.left().as_secs()))
        }
        (Fate::Healthy, None) => (true, "ready".to_owned()),
    }
}
