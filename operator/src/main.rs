//! The grid operator: watches BuildGrid, CasStorage and WorkerPool, and keeps what they ask for running.
//!
//! - `args`: the command line;
//! - `admin`: metrics and probes over plain HTTP;
//! - `election`: who of several replicas writes;
//! - `controllers`: watches, and the reconcilers behind them;
//! - `scaler`: the demand for pools, as KEDA asks for it;
//! - `metrics`, `requests`: what it counts, of the API server's requests in particular.

mod admin;
mod args;
mod controllers;
mod election;
mod metrics;
mod nodes;
mod referents;
mod requests;
mod scaler;
mod scope;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use grid_operator_apply::Leadership;
use grid_operator_controllers::casstorage::Cleanups;
use grid_operator_controllers::fleet::{Fleets, GrpcConnector};
use grid_operator_controllers::{Context, Images, Pace, Rollouts, SystemMint, bundle};
use kube::client::ClientBuilder;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use args::Args;
use metrics::Metrics;
use requests::Requests;
use scope::Scope;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    // Two libraries bring a provider each; without a choice, the first TLS connection would panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let requests = Requests::default();
    let config = kube::Config::infer().await.context("no API server to talk to")?;
    let client = ClientBuilder::try_from(config).context("the way to the API server")?;
    let client = client.with_layer(&requests).build();
    if args.support_bundle {
        return write_bundle(&client, args.watch_namespace.as_deref()).await;
    }
    let scope = Scope::new(client.clone(), args.watch_namespace.clone());
    scope.check_crds().await?;
    if args.check {
        tracing::info!("the three resources are there and may be read");
        return Ok(());
    }
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));

    let leadership = if args.leader_elect { Leadership::none() } else { Leadership::sole() };
    let fleets = Arc::new(Fleets::new(Arc::new(GrpcConnector), leadership.clone()));
    let cleanups = Cleanups::default();
    let metrics = Arc::new(Metrics::new(Arc::clone(&fleets), cleanups.clone(), &requests));
    let admin = admin::serve(args.admin, Arc::clone(&metrics), leadership.clone(), shutdown.clone());
    let admin = tokio::spawn(admin);

    let registry = args.image_registry.as_deref().context("--image-registry says where the images are")?;
    let images = Images::new(registry, &args.image_version);
    let context = Context::new(
        client.clone(),
        leadership.clone(),
        images,
        Arc::new(SystemMint),
        args.pod_name.clone(),
        Arc::clone(&fleets),
    );
    let pace = Pace { at_once: args.rollout_at_once.into(), pause: Duration::from_secs(args.rollout_pause) };
    let context = Context { rollouts: Rollouts::new(pace), cleanups, ..context };
    let shared = Arc::new(controllers::Shared::new(context, metrics, args.scaler));
    if args.leader_elect {
        election::run(&args, client, leadership, &scope, &shared, &shutdown).await;
    } else {
        controllers::run(&scope, &shared, shutdown.clone()).await;
    }
    shutdown.cancel();
    admin.await.context("the admin server")?
}

/// Writes the bundle, a YAML document a part.
async fn write_bundle(client: &kube::Client, namespace: Option<&str>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    for document in bundle(client, namespace).await {
        let text = serde_yaml::to_string(&document).context("the bundle as YAML")?;
        write!(output, "---\n{text}").context("standard output")?;
    }
    Ok(())
}

/// Ends everything in order when the process is told to end.
async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals can't be listened for");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("told to end");
    shutdown.cancel();
}
