//! The document and its instances.

use grid_core::InstanceName;

use super::channels::parse_endpoint;
use super::connections::Connection;
use super::decoder::{Decode, Decoder, Sound};
use super::scalars::{Names, TextMap};
use super::{Fields, pod, record, rules};
use crate::model::{
    ActionCache, Admin, Authorization, BlobCounts, Channel, Cleanup, Compression, Endpoint, GridCredentials,
    Instance, LargeBlobs, Monitoring, MonitoringFormat, MonitoringTarget, Pod, RedisConnection, Scheduler,
    ServerConfig, ServerService, Service, Shared, SqlConnection, Storage, TagFormat,
};
use crate::table::{ADMIN, CLEANUP, GRID_CREDENTIALS, INSTANCE, MONITORING, TOP, Ty};
use crate::yaml::Child;

const NO_THREADS: &str = "there is no thread pool: calls wait in tasks";

/// What is defined for use elsewhere.
#[derive(Default)]
struct Definitions {
    connections: Vec<Connection>,
    storages: Vec<Shared<Storage>>,
    caches: Vec<Shared<ActionCache>>,
    schedulers: Vec<Shared<Scheduler>>,
}

impl Definitions {
    /// The definitions of a document or an instance. Their order is that of the sections, so that an object's place is
    /// where it is defined.
    fn read(f: &mut Fields<'_, '_>) -> Option<Self> {
        let connections = f.opt("connections");
        let storages = f.opt("storages");
        let caches = f.opt("caches");
        let schedulers = f.opt("schedulers");
        f.look("clients");
        Some(Self {
            connections: connections?.unwrap_or_default(),
            storages: storages?.unwrap_or_default(),
            caches: caches?.unwrap_or_default(),
            schedulers: schedulers?.unwrap_or_default(),
        })
    }

    fn extend(&mut self, more: Self) {
        self.connections.extend(more.connections);
        self.storages.extend(more.storages);
        self.caches.extend(more.caches);
        self.schedulers.extend(more.schedulers);
    }
}

/// The whole document.
pub(super) fn document(root: &Child, decoder: &mut Decoder<'_>) -> Option<ServerConfig> {
    let mut fields = Fields::new(root, &TOP, decoder)?;
    let f = &mut fields;
    rules::required(f);
    let mut definitions = Definitions::read(f);
    let description = f.opt("description");
    let channels = f.opt::<Vec<Channel>>("server");
    let authorization = f.opt("authorization");
    let monitoring = f.opt::<MaybeMonitoring>("monitoring");
    let max_concurrent_calls = calls_at_once(f);
    let max_connections = f.or("maximum-connections");
    let reflection = f.or("server-reflection");
    let compression = f.or::<String>("grpc-compression");
    let options = f.opt("grpc-server-options");
    let instances = f.opt::<Sound<ReadInstance>>("instances");
    let cleanup = f.opt("cleanup");
    let admin = f.opt("admin");
    let http_cache = f.opt::<Vec<Channel>>("http-cache");
    let (state_directory, metering) = (f.opt("state-directory"), f.opt("metering"));
    let grid_credentials = f.opt("grid-credentials");
    let (grpc_web, rates, tracing) = (f.opt("grpc-web"), f.opt("rates"), f.opt("tracing"));
    let health_of = f.opt("health-of");
    let pod = f.opt::<Pod>("pod");
    let services = f.opt::<Sound<Shared<ServerService>>>("services");

    let read = merged(instances?, &mut definitions);
    rules::instances(f, &read);
    let definitions = definitions?;
    let (sql_connections, redis_connections) = by_kind(definitions.connections);
    let (mut channels, pod) = (channels?.unwrap_or_default(), pod?.unwrap_or_default());
    pod::place(f, &mut channels, &pod);
    Some(ServerConfig {
        description: description?,
        channels,
        authorization: authorization?.unwrap_or_else(Authorization::open),
        monitoring: monitoring?.and_then(|MaybeMonitoring(monitoring)| monitoring),
        max_concurrent_calls: max_concurrent_calls?,
        max_connections: max_connections?,
        reflection: reflection?,
        compression: if compression? == "NoCompression" { Compression::None } else { Compression::Gzip },
        options: options?.unwrap_or_default(),
        sql_connections,
        redis_connections,
        storages: definitions.storages,
        caches: definitions.caches,
        schedulers: definitions.schedulers,
        metering: metering?,
        instances: read,
        services: services?.map_or_else(Vec::new, |Sound(services)| services),
        cleanup: cleanup?.unwrap_or_default(),
        admin: admin?.unwrap_or_else(|| Admin { address: "127.0.0.1:8980".to_owned() }),
        http_cache: http_cache?.unwrap_or_default(),
        state_directory: state_directory?,
        grid_credentials: grid_credentials?.unwrap_or_default(),
        grpc_web: grpc_web?,
        health_of: health_of?.unwrap_or_default(),
        rates: rates?.unwrap_or_default(),
        tracing: tracing?,
        working_directory: pod.working_directory,
    })
}

/// How many calls work at once: without a number of its own, as many as threads are asked for.
fn calls_at_once(f: &mut Fields<'_, '_>) -> Option<usize> {
    match f.opt("thread-pool-size")? {
        Some(threads) if !f.has("maximum-concurrent-rpcs") => {
            let message = format!("{NO_THREADS}; `thread-pool-size` is taken for `maximum-concurrent-rpcs`");
            f.warn_at("thread-pool-size", message);
            Some(threads)
        }
        _ => {
            f.no_effect(
                "thread-pool-size",
                &format!("{NO_THREADS}, and `maximum-concurrent-rpcs` bounds them"),
            );
            f.or("maximum-concurrent-rpcs")
        }
    }
}

/// The instances; what they define joins the document's definitions.
fn merged(instances: Option<Sound<ReadInstance>>, definitions: &mut Option<Definitions>) -> Vec<Instance> {
    let mut read = Vec::new();
    for ReadInstance { instance, definitions: more } in
        instances.map_or_else(Vec::new, |Sound(instances)| instances)
    {
        read.push(instance);
        if let Some(definitions) = definitions {
            definitions.extend(more);
        }
    }
    read
}

/// Connections to databases, and those to Redis.
fn by_kind(connections: Vec<Connection>) -> (Vec<Shared<SqlConnection>>, Vec<Shared<RedisConnection>>) {
    let (mut sql, mut redis) = (Vec::new(), Vec::new());
    for connection in connections {
        match connection {
            Connection::Sql(connection) => sql.push(connection),
            Connection::Redis(connection) => redis.push(connection),
        }
    }
    (sql, redis)
}

struct ReadInstance {
    instance: Instance,
    definitions: Definitions,
}

impl Decode for ReadInstance {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &INSTANCE, decoder)?;
        let f = &mut fields;
        let names = names(f);
        let description = f.opt("description");
        let definitions = Definitions::read(f);
        let Sound(services) = f.req::<Sound<Shared<Service>>>("services")?;
        rules::services(f, &services);
        Some(Self {
            instance: Instance { names: names?, description: description?, services },
            definitions: definitions?,
        })
    }
}

fn names(f: &mut Fields<'_, '_>) -> Option<Vec<InstanceName>> {
    let Names(names) = f.req("name")?;
    let mut read = Vec::with_capacity(names.len());
    for name in names {
        if name == "unnamed" {
            f.error_at(
                "name",
                "`unnamed` is how metrics call the instance ''; choose another name".to_owned(),
            );
            continue;
        }
        match InstanceName::new(&name) {
            Ok(name) => read.push(name),
            Err(error) => f.error_at("name", error.to_string()),
        }
    }
    Some(read)
}

impl Decode for GridCredentials {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &GRID_CREDENTIALS, decoder)?;
        let f = &mut fields;
        record!(f => GridCredentials { worker_token: opt("worker-token"), admin_token: opt("admin-token") })
    }
}

impl Decode for Admin {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &ADMIN, decoder)?;
        let address: String = fields.or("address")?;
        if !matches!(parse_endpoint(&address), Some(Endpoint::Tcp { .. })) {
            fields.error_at("address", format!("expected HOST:PORT, found `{address}`"));
            return None;
        }
        Some(Self { address })
    }
}

/// `monitoring` as it is written: it may be switched off.
struct MaybeMonitoring(Option<Monitoring>);

impl Decode for MaybeMonitoring {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &MONITORING, decoder)?;
        let f = &mut fields;
        let enabled = f.or::<bool>("enabled");
        let target = target(f);
        let format = f.or::<String>("serialization-format");
        let prefix = f.opt::<String>("metric-prefix");
        let tags = f.or::<String>("tag-format");
        let TextMap(additional_tags) = f.or("additional-tags")?;
        let monitoring = Monitoring {
            target: target?,
            format: match format?.as_str() {
                "binary" => MonitoringFormat::Binary,
                "json" => MonitoringFormat::Json,
                _ => MonitoringFormat::Statsd,
            },
            prefix: prefix?.unwrap_or_default().trim_end_matches('.').to_owned(),
            tags: match tags?.as_str() {
                "none" => TagFormat::None,
                "dogstatsd" => TagFormat::Dog,
                "graphite" => TagFormat::Graphite,
                _ => TagFormat::Influx,
            },
            additional_tags,
        };
        Some(Self(enabled?.then_some(monitoring)))
    }
}

fn target(f: &mut Fields<'_, '_>) -> Option<MonitoringTarget> {
    let kind = f.or::<String>("endpoint-type");
    let location = f.opt::<String>("endpoint-location");
    let kind = kind?;
    match (kind.as_str(), location?) {
        ("stdout", _) => {
            f.no_effect("endpoint-location", "`endpoint-type` is `stdout`");
            Some(MonitoringTarget::Stdout)
        }
        ("file", Some(path)) => Some(MonitoringTarget::File(path.into())),
        ("socket", Some(path)) => Some(MonitoringTarget::Socket(path.into())),
        (_, Some(address)) if parse_endpoint(&address).is_some() => Some(MonitoringTarget::Udp(address)),
        (_, Some(address)) => {
            f.error_at("endpoint-location", format!("expected HOST:PORT, found `{address}`"));
            None
        }
        (_, None) => {
            f.error(format!(
                "`endpoint-location` is missing: with `endpoint-type` `{kind}` it says where to"
            ));
            None
        }
    }
}

impl Decode for Cleanup {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &CLEANUP, decoder)?;
        let f = &mut fields;
        let high_count = f.opt::<u64>("high-blob-count-watermark");
        let low_count = f.opt::<u64>("low-blob-count-watermark");
        let threshold = f.opt::<u64>("large-blob-threshold");
        let lifetime = f.opt("large-blob-lifetime");
        let rest = CleanupRest::read(f)?;
        let counts =
            pair(f, high_count?, low_count?, "high-blob-count-watermark", "low-blob-count-watermark")?;
        let large = pair(f, threshold?, lifetime?, "large-blob-threshold", "large-blob-lifetime")?;
        let cleanup = Self {
            name: rest.name,
            index: rest.index,
            high_watermark: rest.high_watermark,
            low_watermark: rest.low_watermark,
            batch_size: rest.batch_size,
            counts: counts.map(|(high, low)| BlobCounts { high, low }),
            only_if_unused_for: rest.only_if_unused_for,
            large: large.map(|(threshold, lifetime)| LargeBlobs { threshold, lifetime }),
            retry_limit: rest.retry_limit,
        };
        rules::cleanup(f, &cleanup).then_some(cleanup)
    }
}

/// The keys of a cleanup that stand for themselves.
struct CleanupRest {
    name: String,
    index: Shared<Storage>,
    high_watermark: u64,
    low_watermark: u64,
    batch_size: u64,
    only_if_unused_for: Option<std::time::Duration>,
    retry_limit: u32,
}

impl CleanupRest {
    fn read(f: &mut Fields<'_, '_>) -> Option<Self> {
        record!(f => CleanupRest {
            name: req("instance-name"),
            index: req("index"),
            high_watermark: req("high-watermark"),
            low_watermark: req("low-watermark"),
            batch_size: req("batch-size"),
            only_if_unused_for: opt("only-if-unused-for"),
            retry_limit: or("retry-limit"),
        })
    }
}

/// Two keys that go together.
#[allow(clippy::option_option, reason = "absent is not wrong")]
fn pair<A, B>(
    f: &mut Fields<'_, '_>,
    a: Option<A>,
    b: Option<B>,
    first: &str,
    second: &str,
) -> Option<Option<(A, B)>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Some((a, b))),
        (None, None) => Some(None),
        _ => {
            f.error(format!("`{first}` and `{second}` go together: give both or none"));
            None
        }
    }
}
