//! What `grid-worker` is told: arguments, each with its environment variable, checked all at once.

use std::path::PathBuf;

use clap::{Args, Parser};
use http::{HeaderName, HeaderValue, Uri};

/// The only argument with which the binary does not work but is the probe that a worker runs.
pub const PROBE: &str = "probe";

/// Takes actions from a build grid, and has them run by grid-runner.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Settings {
    /// The Bots service: http://HOST:PORT or https://HOST:PORT.
    #[arg(long, env = "GRID_WORKER_BOTS")]
    pub bots: String,
    /// The CAS and ByteStream services; the same as --bots where it is not given.
    #[arg(long, env = "GRID_WORKER_CAS")]
    pub cas: Option<String>,
    /// The instance to work for.
    #[arg(long, env = "GRID_WORKER_INSTANCE", default_value = "")]
    pub instance: String,
    /// File with the bearer token for the grid, read again when it changes.
    #[arg(long, env = "GRID_WORKER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities to trust, instead of the system's.
    #[arg(long, env = "GRID_WORKER_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file of this worker's certificate chain.
    #[arg(long, env = "GRID_WORKER_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of this worker's key.
    #[arg(long, env = "GRID_WORKER_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// This worker's name, unique in the grid. Where it is not given, the host's name and a random part, which the cache
    /// directory keeps until the machine starts anew.
    #[arg(long, env = "GRID_WORKER_NAME")]
    pub name: Option<String>,
    /// The worker pool that this worker is of, as NAMESPACE/NAME: what Fleet counts and drains it by.
    #[arg(long, env = "GRID_WORKER_POOL", default_value = "")]
    pub pool: String,
    /// The node that it runs on, by which Fleet drains a whole node.
    #[arg(long, env = "GRID_WORKER_NODE", default_value = "")]
    pub node: String,
    /// How many actions run at once.
    #[arg(long, env = "GRID_WORKER_CONCURRENCY", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// How many leases more are taken than run at once: their inputs are fetched and laid out meanwhile. A lease can wait
    /// here then although another worker has nothing to do.
    #[arg(long, env = "GRID_WORKER_PREFETCH", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=64))]
    pub prefetch: u16,
    /// A platform property as KEY=VALUE; may be repeated, also for one key.
    #[arg(long = "property", env = "GRID_WORKER_PROPERTIES", value_delimiter = ',', value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// The runner's socket: unix:PATH.
    #[arg(long, env = "GRID_WORKER_RUNNER", value_parser = unix_path)]
    pub runner: PathBuf,
    /// The directory that actions run in, shared with the runner.
    #[arg(long, env = "GRID_WORKER_BUILD_DIR")]
    pub build_dir: PathBuf,
    /// The directory of cached inputs, this worker's alone.
    #[arg(long, env = "GRID_WORKER_CACHE_DIR")]
    pub cache_dir: PathBuf,
    /// The most bytes of cached inputs.
    #[arg(long, env = "GRID_WORKER_CACHE_SIZE", default_value_t = 10 << 30)]
    pub cache_size: u64,
    /// Bytes that stay free on the disks of build and cache directory: below, cached inputs are given up, then no
    /// work is taken. By default 1 GiB, or 3 % of a smaller disk.
    #[arg(long, env = "GRID_WORKER_DISK_RESERVE")]
    pub disk_reserve: Option<u64>,
    /// Bytes of memory that the machine must have available for new work to be taken. By default 256 MiB, or 2 %
    /// of a smaller machine.
    #[arg(long, env = "GRID_WORKER_MEMORY_RESERVE")]
    pub memory_reserve: Option<u64>,
    /// A file whose appearance means that the machine is about to go: the worker leaves as for SIGTERM.
    #[arg(long, env = "GRID_WORKER_PREEMPTION_FILE")]
    pub preemption_file: Option<PathBuf>,
    /// An address that is asked every five seconds: any answer of 200 but an empty one, `FALSE` and `NONE` means that
    /// the machine is about to go. 404 means that it stays.
    #[arg(long, env = "GRID_WORKER_PREEMPTION_URL", value_parser = plain_http)]
    pub preemption_url: Option<Uri>,
    /// A header that goes with it, as NAME: VALUE; clouds ask for one.
    #[arg(long, env = "GRID_WORKER_PREEMPTION_HEADER", value_parser = header, requires = "preemption_url")]
    pub preemption_header: Option<(HeaderName, HeaderValue)>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "GRID_WORKER_ADMIN")]
    pub admin: Option<std::net::SocketAddr>,
    /// Seconds that running actions have to finish after SIGTERM before they are given back.
    #[arg(long, env = "GRID_WORKER_GRACE", default_value_t = 25)]
    pub grace: u64,
    /// Seconds that the server may hold a call while there is no work.
    #[arg(long, env = "GRID_WORKER_POLL", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=600))]
    pub poll: u64,
    /// Compress what travels with zstd where the server offers it: for slow networks, at the price of CPU time.
    #[arg(long, env = "GRID_WORKER_ZSTD")]
    pub zstd: bool,
    /// How many persistent workers may be alive: processes that stay, for actions with Bazel's `persistentWorkerKey`. Each
    /// takes memory also while it has nothing to do, and what it read for one action it still knows at the next. None by
    /// default: such actions are run like all others.
    #[arg(long, env = "GRID_WORKER_PERSISTENT_WORKERS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub persistent_workers: u16,
    /// Seconds after which a persistent worker without work is ended.
    #[arg(long, env = "GRID_WORKER_PERSISTENT_WORKER_IDLE", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub persistent_worker_idle: u64,
    /// The command that proves the runner, its words divided by spaces; `none` for no proof. By default this
    /// program itself is staged and run, which needs nothing of the runner's image.
    #[arg(long, env = "GRID_WORKER_PROBE")]
    pub probe: Option<String>,
    /// What actions may use.
    #[command(flatten)]
    pub limits: LimitSettings,
}

/// What actions may use; without a value there is no limit but those of the pod.
#[derive(Args, Clone, Debug)]
pub struct LimitSettings {
    /// Bytes of standard output and standard error of an action, each.
    #[arg(long, env = "GRID_WORKER_LOG_LIMIT", default_value_t = 256 << 20)]
    pub log_limit: u64,
    /// Bytes of memory of an action's processes together.
    #[arg(long, env = "GRID_WORKER_MEMORY_LIMIT")]
    pub memory_limit: Option<u64>,
    /// Processes of an action alive at once.
    #[arg(long, env = "GRID_WORKER_PROCESS_LIMIT")]
    pub process_limit: Option<u64>,
    /// Bytes of any one file that an action writes.
    #[arg(long, env = "GRID_WORKER_FILE_LIMIT")]
    pub file_limit: Option<u64>,
    /// Bytes on disk of all files that an action makes.
    #[arg(long, env = "GRID_WORKER_ACTION_DISK_LIMIT")]
    pub action_disk_limit: Option<u64>,
}

impl Settings {
    /// The platform that the worker offers: the properties given, with `OSFamily` and `ISA` of this machine where
    /// neither was said of them. Every grid matches by these two.
    #[must_use]
    pub fn platform(&self) -> Vec<(String, String)> {
        let isa = match std::env::consts::ARCH {
            "x86_64" => "x86-64",
            other => other,
        };
        let own = [("OSFamily", std::env::consts::OS), ("ISA", isa)];
        let unsaid = own.into_iter().filter(|(key, _)| self.properties.iter().all(|(given, _)| given != key));
        let unsaid = unsaid.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.properties.iter().cloned().chain(unsaid).collect()
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

fn plain_http(text: &str) -> Result<Uri, String> {
    match text.parse::<Uri>() {
        Ok(url) if url.scheme_str() == Some("http") && url.host().is_some() => Ok(url),
        _ => Err(format!("{text:?} is not http://HOST[:PORT]/PATH")),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text
        .split_once(':')
        .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim().parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is not NAME: VALUE"))
}

fn unix_path(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(format!("{text:?} is not unix:PATH")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> Result<Settings, clap::Error> {
        let base = [
            "grid-worker",
            "--bots",
            "http://a:1",
            "--runner",
            "unix:/r",
            "--build-dir",
            "/b",
            "--cache-dir",
            "/c",
        ];
        Settings::try_parse_from(base.iter().chain(extra))
    }

    #[test]
    fn properties_may_repeat_a_key() {
        let settings = parse(&["--property", "a=1", "--property", "a=2=3"]).unwrap();
        let expected = [("a", "1"), ("a", "2=3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(settings.properties, expected);
    }

    #[test]
    fn the_machine_is_offered_unless_something_else_is_said() {
        let offered =
            parse(&["--property", "ISA=sparc", "--property", "toolchain=gcc12"]).unwrap().platform();
        let of =
            |key: &str| offered.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        assert_eq!(of("ISA"), ["sparc"]);
        assert_eq!(of("OSFamily"), ["linux"]);
        assert_eq!(of("toolchain"), ["gcc12"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, named) in [
            (["--property", "=x"], "KEY=VALUE"),
            (["--concurrency", "0"], "concurrency"),
            (["--tls-cert", "x"], "tls-key"),
            (["--poll", "1"], "poll"),
            (["--preemption-url", "https://x/"], "http://HOST"),
            (["--preemption-header", "A: b"], "preemption-url"),
        ] {
            let message = parse(&arguments).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
