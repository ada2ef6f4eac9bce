//! The life of a worker: prove the runner, open the cache, talk to the grid, leave in good order.
//!
//! Everything is put together here and nowhere else. Neighbours: `config` says what, `bot` does the talking,
//! `health` watches.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use grid_core::{InstanceName, SystemClock};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::admin;
use crate::bot::{Bot, Fate, Identity};
use crate::cache::{FileCache, Placement};
use crate::cas::Cas;
use crate::config::{LimitSettings, Settings};
use crate::connect::{self, Credentials, Remote};
use crate::disk::Disks;
use crate::error::WorkerError;
use crate::execute::janitor::Janitor;
use crate::execute::workspace::Workspaces;
use crate::execute::{Executor, Residents};
use crate::faults::Faults;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::name;
use crate::notice::{Notice, Service};
use crate::probe::{self, Probe};
use crate::retry::{Backoff, Retry};
use crate::runner_client::{Limits, RunnerClient};
use crate::stage::{SpareTrees, Trees};

/// Connections to the CAS: one carries many calls, but has one window and one replica.
const CAS_CHANNELS: usize = 4;
/// For how long a call to the CAS is repeated.
const CAS_PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of directories kept in memory.
const DIRECTORY_MEMORY: usize = 64 << 20;

/// Works until SIGTERM or SIGINT and all results are taken.
///
/// # Errors
/// Where the settings can't be used; what fails later is waited out.
pub async fn work(settings: Settings) -> anyhow::Result<()> {
    prepare_process()?;
    let metrics = Arc::new(Metrics::default());
    let (fate_sender, fate) = watch::channel(Fate::Unhealthy("starting".to_owned()));
    let drain = watch::Sender::new(None);
    if let Some(address) = settings.admin {
        let bound = admin::start(address, metrics.clone(), fate.clone(), drain.subscribe()).await?;
        tracing::info!(address = %bound, "admin port");
    }
    let mut leave = departure(fate_sender.clone(), &settings)?;

    let janitor = Janitor::start();
    let build = directory(&settings.build_dir, "--build-dir")?;
    janitor.take_over(&build).with_context(|| format!("--build-dir {}", build.display()))?;
    let runner = RunnerClient::new(settings.runner.clone(), limits(&settings.limits));
    let workspaces = Workspaces::new(&build, janitor.clone());
    let probe = Probe::new(settings.probe.as_deref()).context("reading this program for the probe")?;
    let owner = tokio::select! {
        owner = first_proof(&probe, &runner, &workspaces) => owner,
        () = &mut leave => return Ok(()),
    };

    let (remotes, cas) = remotes(&settings)?;
    let placement = placement(owner, &build, &settings.cache_dir)?;
    let cache = FileCache::open(&settings.cache_dir, settings.cache_size, placement, cas.clone())
        .with_context(|| format!("--cache-dir {}", settings.cache_dir.display()))?;
    let (bytes, files) = cache.usage();
    tracing::info!(?placement, bytes, files, "the cache is open");
    let spares = SpareTrees::open(settings.cache_dir.join("trees"), janitor.clone())
        .with_context(|| format!("--cache-dir {}", settings.cache_dir.display()))?;
    let name = settings.name.clone().map_or_else(|| name::of_cache(&settings.cache_dir), Ok)?;
    let executor = Arc::new(Executor {
        name: name.clone(),
        trees: Trees::new(cas.clone(), DIRECTORY_MEMORY),
        cas,
        cache: Arc::new(cache),
        spares: Arc::new(spares),
        places: Semaphore::new(settings.concurrency.into()),
        residents: Arc::new(residents(&settings)),
        runner: runner.clone(),
        workspaces: workspaces.clone(),
        faults: Faults::default(),
    });
    let became = take_work(&fate_sender);
    tracing::info!(takes_work = became, "the worker is proved");
    let disks = Disks::new(&[&build, executor.cache.root()], settings.disk_reserve);
    let reserve = settings.memory_reserve;
    let health = Health::new(fate_sender, executor.clone(), metrics.clone(), janitor, disks, reserve, probe);
    tokio::spawn(health.watch());
    let identity = Identity {
        instance: settings.instance.clone(),
        bot_id: name,
        properties: settings.platform(),
        pool: settings.pool.clone(),
        node: settings.node.clone(),
        capacity: usize::from(settings.concurrency) + usize::from(settings.prefetch),
        poll: Duration::from_secs(settings.poll),
    };
    Bot::new(identity, remotes, executor, Arc::new(SystemClock), metrics, fate, drain).run().await;
    tracing::info!("all results are taken; leaving");
    Ok(())
}

/// A worker that is proved takes work, unless it is leaving already; whether it does.
fn take_work(fate: &watch::Sender<Fate>) -> bool {
    fate.send_if_modified(|fate| {
        let starting = !fate.is_final();
        if starting {
            *fate = Fate::Healthy;
        }
        starting
    })
}

/// Files get exactly the modes that they are made with, and as many may be open as the system allows.
fn prepare_process() -> anyhow::Result<()> {
    umask(Mode::empty());
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("raising the limit of open files")
}

fn directory(path: &Path, flag: &str) -> anyhow::Result<std::path::PathBuf> {
    std::fs::create_dir_all(path)
        .and_then(|()| path.canonicalize())
        .with_context(|| format!("{flag} {}", path.display()))
}

fn residents(settings: &Settings) -> Residents {
    let idle = Duration::from_secs(settings.persistent_worker_idle);
    Residents::new(settings.persistent_workers.into(), idle)
}

fn limits(settings: &LimitSettings) -> Limits {
    Limits {
        log_bytes: Some(settings.log_limit),
        memory_bytes: settings.memory_limit,
        processes: settings.process_limit,
        file_bytes: settings.file_limit,
        disk_bytes: settings.action_disk_limit,
    }
}

/// Proves the runner, for as long as it takes: it may start later than the worker. Gives whose files commands make,
/// which is the runner where the probe doesn't tell.
async fn first_proof(probe: &Probe, runner: &RunnerClient, workspaces: &Workspaces) -> u32 {
    let mut backoff = Backoff::default();
    loop {
        let proof = match probe::prove(probe, runner, workspaces).await {
            Ok(Some(owner)) => return owner,
            Ok(None) => {
                runner.user().await.map_err(|error| WorkerError::local("asking for the runner", error))
            }
            Err(error) => Err(error),
        };
        match proof {
            Ok(user) => return user,
            Err(error) => {
                let pause = backoff.pause();
                tracing::warn!(%error, ?pause, "the runner is not proved yet");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn remotes(settings: &Settings) -> anyhow::Result<(Remote, Cas)> {
    let credentials = Credentials {
        tls_ca: settings.tls_ca.clone(),
        tls_identity: settings.tls_cert.clone().zip(settings.tls_key.clone()),
        token_file: settings.token_file.clone(),
    };
    let bots = connect::remote(&settings.bots, &credentials).context("--bots")?;
    let cas = settings.cas.as_ref().unwrap_or(&settings.bots);
    let channels: Vec<Remote> = std::iter::repeat_with(|| connect::remote(cas, &credentials))
        .take(CAS_CHANNELS)
        .collect::<anyhow::Result<_>>()
        .context("--cas")?;
    let instance = InstanceName::new(&settings.instance).context("--instance")?;
    Ok((bots, Cas::new(channels, instance, Retry { budget: CAS_PATIENCE }, settings.zstd)))
}

/// Links where a command can neither own a cached file nor pass over its mode; else copies.
fn placement(owner: u32, build: &Path, cache: &Path) -> anyhow::Result<Placement> {
    let own = geteuid().as_raw();
    if owner == own || owner == 0 {
        tracing::warn!(
            runner = owner,
            worker = own,
            "commands run as a user that could change cached inputs, so inputs are copied, not linked; \
             give the runner a user id of its own"
        );
        return Ok(Placement::Copy);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("--cache-dir {}", cache.display()))?;
    let (source, link) = (cache.join(".link-test"), build.join(".link-test"));
    let remove = || {
        let _ = std::fs::remove_file(&source);
        let _ = std::fs::remove_file(&link);
    };
    remove();
    let linked = std::fs::write(&source, "").and_then(|()| std::fs::hard_link(&source, &link));
    remove();
    Ok(match linked {
        Ok(()) => Placement::Link,
        Err(error) => {
            tracing::warn!(%error, "the build directory can't hold links to the cache, so inputs are copied");
            Placement::Copy
        }
    })
}

/// Leads SIGTERM, SIGINT and the notice of preemption into the worker's fate; the future ends with the first.
fn departure(
    fate: watch::Sender<Fate>,
    settings: &Settings,
) -> anyhow::Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let notice = match &settings.preemption_file {
        Some(file) => {
            Some(Notice::new(file).with_context(|| format!("--preemption-file {}", file.display()))?)
        }
        None => None,
    };
    let service =
        settings.preemption_url.clone().map(|url| Service::new(url, settings.preemption_header.clone()));
    let grace = Duration::from_secs(settings.grace);
    let mut watched = fate.subscribe();
    tokio::spawn(async move {
        let notice = futures::future::OptionFuture::from(notice.as_ref().map(Notice::given));
        let told = futures::future::OptionFuture::from(service.as_ref().map(Service::given));
        let reboot = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            Some(()) = notice => true,
            Some(()) = told => true,
        };
        tracing::info!(?grace, reboot, "leaving: running actions may finish");
        fate.send_replace(Fate::Leaving { reboot });
        tokio::time::sleep(grace).await;
        fate.send_replace(Fate::GivingBack);
    });
    Ok(Box::pin(async move {
        let _ = watched.wait_for(Fate::is_final).await;
    }))
}
