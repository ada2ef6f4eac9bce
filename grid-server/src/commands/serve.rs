//! `serve`: what a configuration says, until the process is asked to end.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::join_all;
use grid_cas::decorators::with_cache::WithCache;
use grid_config::ServerConfig;
use grid_config::model::{Channel, ServerOptions};
use grid_rpc::http_cache::HttpCache;
use grid_rpc::spans::CallSpans;
use grid_rpc::steps::count_received;
use grid_rpc::transport::deadline::Deadlines;
use grid_rpc::transport::{self, TransportOptions};
use grid_rpc::web::Web;
use grid_telemetry::Metrics;
use grid_telemetry::cleanup::CleanupMetrics;
use grid_telemetry::dependencies::Dependencies;
use grid_telemetry::http_cache::HttpMetrics;
use grid_telemetry::process::Process;
use grid_telemetry::rpc::RpcMetrics;
use grid_telemetry::traces::{HttpTraces, TraceOptions, Traces};
use grid_telemetry::watched::Watching;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::layer::util::Stack;
use tower::{Layer as _, Service, ServiceBuilder};

use crate::answers::Answers;
use crate::cli::Serve;
use crate::compose::{Composed, authorization, beside, compose};
use crate::hand_over::HandOver;
use crate::limits::Limits;
use crate::listen::{self, Listener, Places};
use crate::readiness::{self, Health, Readiness};
use crate::{admin, cleaning, elsewhere, monitoring, paths, settings};
use grid_rpc::auth::AuthLayer;

/// How long the last spans may take to reach their collector.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// How long a client may pause within a request.
const IDLE: Duration = Duration::from_secs(60);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Serve) -> anyhow::Result<ExitCode> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    let listeners = listeners(&config, arguments.allow_insecure).await?;
    let http_caches = bind(&config.http_cache, arguments.allow_insecure, listen::HTTP).await?;
    let metrics = Metrics::default();
    metrics.register_collector(Box::new(Process));

    let bus = monitoring::bus(&config, &metrics);
    let readiness = Readiness::default();
    let mut background = JoinSet::new();
    background.spawn(admin(&arguments, &config, &metrics, &readiness).await?);

    let Composed { routes, http_cache, needs, dependencies, pools, health, cleaners, deferring, _temporary } =
        compose(&config, &metrics, bus.clone()).await?;
    let others = beside(&config)?;
    let reporter = health.clone();
    let health = Health::new(health, needs, &others).await;
    background.spawn(elsewhere::follow(others, reporter));
    let ending = CancellationToken::new();
    let answers = Answers::new(config.max_concurrent_calls);
    background.spawn(answers.clone().look());
    let authorization = authorization::layer(&config)?;
    let traces = traces(&config, &metrics)?;
    let server = Server {
        config: &config,
        routes,
        metrics: RpcMetrics::new(&metrics, paths::all(), bus.clone()),
        traces: traces.clone(),
        http_metrics: HttpMetrics::new(&metrics),
        authorization: authorization.clone(),
        limits: Limits::new(config.max_concurrent_calls, answers),
        places: Places::new(config.max_connections, &metrics),
        ending: ending.clone(),
    };
    let cache = HttpCache::new(http_cache, authorization);
    let mut serving = server.spawn_all(listeners, http_caches, &cache);
    background.spawn(readiness::watch(
        dependencies,
        readiness.clone(),
        Dependencies::new(&metrics),
        health.clone(),
    ));
    if let Some(bus) = &bus {
        background.spawn(monitoring::sessions(bus.clone(), pools));
    }
    background.spawn(cleaning::keep(cleaners, CleanupMetrics::new(&metrics, bus), cleaning::INTERVAL));
    note_process(&arguments)?;
    until_asked(&mut serving).await?;

    tracing::info!(grace = arguments.grace.as_secs(), "asked to end: finishing what is under way");
    readiness.end();
    health.end().await;
    ending.cancel();
    finish(serving, &deferring, arguments.grace).await;
    traces.end(LAST_SPANS).await;
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// What traces calls where that is asked for.
fn traces(config: &ServerConfig, metrics: &Metrics) -> anyhow::Result<Traces> {
    let Some(asked) = &config.tracing else { return Ok(Traces::off()) };
    let options = TraceOptions {
        endpoint: asked.endpoint.clone(),
        sample: asked.sample,
        service_name: asked.service_name.clone(),
    };
    Ok(Traces::new(&options, metrics)?)
}

/// Writes the process's id where that is asked for.
fn note_process(arguments: &Serve) -> anyhow::Result<()> {
    let Some(path) = &arguments.pid_file else { return Ok(()) };
    std::fs::write(path, format!("{}\n", std::process::id())).with_context(|| path.display().to_string())
}

/// Binds the admin address; gives what serves it.
async fn admin(
    arguments: &Serve,
    config: &ServerConfig,
    metrics: &Metrics,
    readiness: &Readiness,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let address = arguments.admin.map_or_else(|| config.admin.address.clone(), |address| address.to_string());
    let admin =
        TcpListener::bind(&address).await.with_context(|| format!("can't listen on {address} (admin)"))?;
    tracing::info!("admin on http://{}", admin.local_addr()?);
    Ok(ignoring(admin::serve(admin, metrics.clone(), readiness.clone())))
}

/// The addresses of gRPC.
async fn listeners(config: &ServerConfig, allow_insecure: bool) -> anyhow::Result<Vec<Listener>> {
    let protocols = if config.grpc_web.is_some() { listen::HTTP } else { listen::GRPC };
    let listeners = bind(&config.channels, allow_insecure, protocols).await?;
    anyhow::ensure!(
        !listeners.is_empty(),
        "the configuration has no `server`: there is nothing to listen on"
    );
    Ok(listeners)
}

async fn bind(
    channels: &[Channel],
    allow_insecure: bool,
    protocols: &'static [&'static str],
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(channels.len());
    for channel in channels {
        listeners.push(Listener::bind(channel, allow_insecure, protocols).await?);
    }
    Ok(listeners)
}

/// Waits for a signal; an address that stops being served by itself is an error.
async fn until_asked(serving: &mut JoinSet<()>) -> anyhow::Result<()> {
    tokio::select! {
        asked = super::asked_to_end() => Ok(asked?),
        Some(stopped) = serving.join_next() => {
            stopped.context("an address stopped being served")?;
            anyhow::bail!("an address stopped being served")
        }
    }
}

/// Lets calls finish, and cuts off those that outlast the grace; then makes the writes that they put off.
async fn finish(mut serving: JoinSet<()>, deferring: &[Arc<WithCache>], grace: Duration) {
    let end = Instant::now() + grace;
    let finished = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout_at(end, finished).await.is_err() {
        tracing::warn!("calls that outlasted the grace were cut off");
    }
    let settled = join_all(deferring.iter().map(|store| store.settled()));
    if tokio::time::timeout_at(end, settled).await.is_err() {
        tracing::warn!("deferred writes outlasted the grace; those of a disk are made at the next start");
    }
}

async fn ignoring(serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "the admin address stopped being served");
    }
}

/// What every address serves.
struct Server<'a> {
    config: &'a ServerConfig,
    routes: Routes,
    metrics: RpcMetrics,
    traces: Traces,
    http_metrics: HttpMetrics,
    authorization: AuthLayer,
    limits: Limits,
    places: Places,
    ending: CancellationToken,
}

impl Server<'_> {
    fn spawn_all(&self, grpc: Vec<Listener>, http: Vec<Listener>, cache: &HttpCache) -> JoinSet<()> {
        let mut serving = JoinSet::new();
        for listener in grpc {
            tracing::info!("serving on {}", listener.describe());
            self.spawn(listener, &mut serving);
        }
        for listener in http {
            tracing::info!("HTTP cache on {}", listener.describe());
            self.spawn_http_cache(listener, cache.clone(), &mut serving);
        }
        serving
    }

    fn spawn(&self, listener: Listener, serving: &mut JoinSet<()>) {
        let service = ServiceBuilder::new()
            .layer(Watching(self.metrics.clone()))
            .map_request(count_received)
            .layer(Watching(self.traces.clone()))
            .layer(CallSpans)
            .layer(HandOver::new(self.ending.clone()))
            .layer(guards(self.authorization.clone(), self.limits.clone()))
            .service(self.routes.clone());
        let (options, places, ending) =
            (options(&self.config.options), self.places.clone(), self.ending.clone());
        match &self.config.grpc_web {
            None => spawn(listener, places, options, service, ending, serving),
            Some(web) => {
                let web = Web::new(web.origins.iter().map(String::as_str));
                // Browsers speak HTTP/1.1 where there is no TLS.
                let options = TransportOptions { http1: true, ..options };
                spawn(listener, places, options, web.layer(service), ending, serving);
            }
        }
    }

    fn spawn_http_cache(&self, listener: Listener, cache: HttpCache, serving: &mut JoinSet<()>) {
        let service = ServiceBuilder::new()
            .layer(Watching(self.http_metrics.clone()))
            .layer(Watching(HttpTraces(self.traces.clone())))
            .layer(CallSpans)
            .layer(self.limits.over_http())
            .layer(Deadlines { idle: IDLE })
            .service(cache);
        let options = TransportOptions { http1: true, ..options(&self.config.options) };
        spawn(listener, self.places.clone(), options, service, self.ending.clone(), serving);
    }
}

/// What stands before the services, outermost last: whoever waits to be admitted takes no place from those who are.
fn guards(authorization: AuthLayer, limits: Limits) -> Stack<Stack<Deadlines, Limits>, AuthLayer> {
    Stack::new(Stack::new(Deadlines { idle: IDLE }, limits), authorization)
}

/// Serves what is accepted at an address.
fn spawn<S, B>(
    listener: Listener,
    places: Places,
    options: TransportOptions,
    service: S,
    ending: CancellationToken,
    serving: &mut JoinSet<()>,
) where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let jitter = rand::random;
    match listener {
        Listener::Plain(listener) => {
            let accepted = places.tcp(listener);
            serving.spawn(async move { transport::serve(&options, accepted, service, ending, jitter).await });
        }
        Listener::Tls(listener, files) => {
            let accepted = files.accept(listener, places);
            serving.spawn(async move { transport::serve(&options, accepted, service, ending, jitter).await });
        }
        Listener::Unix(listener, _) => {
            let accepted = places.unix(listener);
            serving.spawn(async move { transport::serve(&options, accepted, service, ending, jitter).await });
        }
    }
}

/// The transport's settings: its own, where the configuration says nothing.
fn options(options: &ServerOptions) -> TransportOptions {
    let own = TransportOptions::default();
    TransportOptions {
        http1: false,
        stream_window: options.stream_window.unwrap_or(own.stream_window),
        connection_window: own.connection_window.max(options.stream_window.unwrap_or(0).saturating_mul(16)),
        max_frame_size: options.max_frame_size.unwrap_or(own.max_frame_size),
        max_concurrent_streams: options.max_concurrent_streams.unwrap_or(own.max_concurrent_streams),
        keepalive_interval: options.keepalive_time.unwrap_or(own.keepalive_interval),
        keepalive_timeout: options.keepalive_timeout.unwrap_or(own.keepalive_timeout),
        greeting: own.greeting,
        send_buffer: own.send_buffer,
        max_connection_age: options.max_connection_age.or(own.max_connection_age),
        max_connection_age_grace: options.max_connection_age_grace.unwrap_or(own.max_connection_age_grace),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use grid_rpc::auth::Rates;
    use grid_rpc::auth::headers::HeaderAuthenticator;
    use grid_rpc::auth::layer::AuthOptions;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_slowed_down_takes_no_place_from_others() {
        let authorization = AuthLayer::new(AuthOptions {
            authenticators: vec![Arc::new(HeaderAuthenticator)],
            rates: Some(Arc::new(Rates::new(Some(1), None))),
            ..AuthOptions::default()
        });
        let answer = service_fn(|_: http::Request<Body>| async {
            Ok::<_, Infallible>(http::Response::new(Body::empty()))
        });
        let server = guards(authorization, Limits::new(1, Answers::new(1))).layer(answer);
        let call = |subject: &str| {
            let mut request = http::Request::builder()
                .uri("/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs");
            for name in ["x-request-subject", "x-request-actor", "x-request-workflow"] {
                request = request.header(name, subject);
            }
            server.clone().oneshot(request.body(Body::empty()).unwrap()).boxed()
        };
        while call("eager").now_or_never().is_some() {}
        let mut slowed: Vec<_> = (0..5).map(|_| call("eager")).collect();
        assert!(slowed.iter_mut().all(|call| call.now_or_never().is_none()));
        let other = call("modest").now_or_never().expect("the place is free").unwrap();
        assert!(!other.headers().contains_key("grpc-status"));
        assert!(slowed.swap_remove(0).await.is_ok(), "the others are only late");
    }
}
