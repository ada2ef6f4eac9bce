//! The YAML of each of a grid's servers. Its cache of results is written by `results`.

use grid_operator_api::{BuildGridSpec, RemoteAssetSpec, Span};

use super::super::roles::{Role, beside_front, serving};
use super::super::validate::{Grid, Storage};
use super::results;
use crate::mutual_tls::client_credentials;
use crate::names::SERVER_ADMIN_PORT;
use crate::server_config::connections::{Mounted, secret};
use crate::server_config::storage::{VOLUME_DIR, disk_limit};
use crate::server_config::yaml::Node;
use crate::workload::{CREDENTIALS_DIR, channels};

/// Anchors of what the servers share by name.
pub(super) const DATABASE: &str = "grid-database";
const STORE: &str = "grid-storage";
pub(super) const RESULTS: &str = "grid-results";
const QUEUE: &str = "grid-queue";

/// A server's configuration, and the keys of Secrets that it reads.
pub(crate) struct Config {
    pub(crate) yaml: String,
    pub(crate) secrets: Mounted,
}

/// Composes the configuration of a role.
pub(crate) fn config(grid: &Grid<'_>, role: Role) -> Config {
    if let Some(raw) = &grid.raw {
        return Config { yaml: raw.yaml.clone(), secrets: raw.secrets.clone() };
    }
    let mut composed = Composed::default();
    let storage = composed.storage(grid, role);
    composed.database(grid);
    let executes = grid.spec.execution.enabled && (role.has_execution() || role.has_bots());
    let needs_results = role.has_action_cache() || executes;
    if needs_results {
        let node = results::results(grid, role, &storage, &mut composed);
        composed.caches.push(node);
    }
    if executes {
        composed.schedulers.push(scheduler(grid, &storage));
    }
    let instance = Node::Map(vec![
        ("name", instance_names(&grid.spec.instances)),
        ("connections", Node::List(composed.connections)),
        ("storages", Node::List(composed.storages)),
        ("caches", Node::List(composed.caches)),
        ("schedulers", Node::List(composed.schedulers)),
        ("services", Node::List(services(grid, role, executes, &storage))),
    ]);
    let mut document = vec![
        ("description", Node::text(format!("{} of the grid {}", role.component(), grid.owner.name))),
        ("server", Node::List(channels(grid.ports(role), grid.mutual_tls.as_ref()))),
        ("admin", admin()),
        ("state-directory", Node::text(VOLUME_DIR)),
    ];
    if let Some(mutual_tls) = &grid.mutual_tls {
        composed.secrets.extend(mutual_tls.server_files());
    }
    if let Some(authorization) = &grid.authorization {
        document.push(("authorization", authorization.node(&mut composed.secrets)));
    }
    if grid.authorization.is_none() && grid.mutual_tls.is_some() {
        document.push(("authorization", open_to_all(&grid.spec.instances)));
    }
    if grid.asks_for_tokens(role) {
        document.push((
            "grid-credentials",
            Node::Map(vec![
                ("worker-token", Node::text(format!("{CREDENTIALS_DIR}/worker-token"))),
                ("admin-token", Node::text(format!("{CREDENTIALS_DIR}/admin-token"))),
            ]),
        ));
    }
    if role.has_execution() {
        document.extend(health_of(grid));
    }
    document.extend(edges(grid.spec));
    document.push(("instances", Node::List(vec![instance])));
    if executes && role.has_execution() {
        let quotas = Node::tagged("!quota-service", vec![("scheduler", Node::alias(QUEUE))]);
        document.push(("services", Node::List(vec![quotas])));
    }
    Config { yaml: Node::Map(document).to_yaml(), secrets: composed.secrets }
}

/// The way in leads to one server for health: it tells that of the others too.
fn health_of(grid: &Grid<'_>) -> Option<(&'static str, Node)> {
    let other = |(role, services): (Role, Vec<&'static str>)| {
        let url = grid.names().pods_url(role.component(), &grid.owner.namespace, grid.wire());
        let mut map = remote(grid, url);
        map.insert(1, ("services", Node::List(services.into_iter().map(Node::text).collect())));
        Node::Map(map)
    };
    let others: Vec<Node> = beside_front(grid.spec).into_iter().map(other).collect();
    (!others.is_empty()).then_some(("health-of", Node::List(others)))
}

/// What stands before the services.
fn edges(spec: &BuildGridSpec) -> Vec<(&'static str, Node)> {
    let tracing = spec.tracing.as_ref().map(|tracing| {
        let sample = match tracing.sample_percent {
            100 => "1".to_owned(),
            percent => format!("0.{percent:02}"),
        };
        (
            "tracing",
            Node::Map(vec![("endpoint", Node::text(&tracing.endpoint)), ("sample", Node::Plain(sample))]),
        )
    });
    let rates = spec.rates.as_ref().map(|rates| {
        let named = [("per-subject", rates.per_subject), ("per-connection", rates.per_connection)];
        let given = named.into_iter().filter_map(|(key, rate)| Some((key, Node::number(rate?))));
        ("rates", Node::Map(given.collect()))
    });
    let web = spec.grpc_web.as_ref().map(|web| {
        ("grpc-web", Node::Map(vec![("origins", Node::List(web.origins.iter().map(Node::text).collect()))]))
    });
    [tracing, rates, web].into_iter().flatten().collect()
}

/// The certificates of parts are no clients': whoever reaches the grid may use it as without them.
fn open_to_all(instances: &[String]) -> Node {
    Node::Map(vec![
        ("method", Node::text("none")),
        ("allow-unauthenticated-instances", Node::List(instances.iter().map(Node::text).collect())),
    ])
}

/// The address of a server's metrics and probes.
fn admin() -> Node {
    Node::Map(vec![("address", Node::text(format!("0.0.0.0:{SERVER_ADMIN_PORT}")))])
}

fn instance_names(names: &[String]) -> Node {
    match names {
        [one] => Node::text(one),
        several => Node::List(several.iter().map(Node::text).collect()),
    }
}

/// The parts of an instance, while they are put together.
#[derive(Default)]
pub(super) struct Composed {
    pub(super) connections: Vec<Node>,
    storages: Vec<Node>,
    caches: Vec<Node>,
    schedulers: Vec<Node>,
    pub(super) secrets: Mounted,
}

impl Composed {
    /// The grid's storage as this role sees it; its anchor.
    fn storage(&mut self, grid: &Grid<'_>, role: Role) -> String {
        match &grid.storage {
            Storage::Embedded(embedded) if grid.volume_role() == Some(role) => {
                let size = embedded.volume.size.bytes().unwrap_or_default();
                let map = vec![
                    ("path", Node::text(format!("{VOLUME_DIR}/cas"))),
                    ("max-size", Node::number(disk_limit(size))),
                ];
                self.storages.push(Node::anchored("!disk-storage", STORE, map));
                STORE.to_owned()
            }
            Storage::Embedded(_) => {
                let cas = serving(grid.spec.topology, Role::has_cas).component();
                let url = grid.names().pods_url(cas, &grid.owner.namespace, grid.wire());
                self.storages.push(Node::anchored("!remote-storage", STORE, remote(grid, url)));
                STORE.to_owned()
            }
            Storage::Shared(access) => {
                let view = access.view(&grid.owner.namespace, STORE);
                self.connections.extend(view.connections);
                self.storages.extend(view.storages);
                self.secrets.extend(view.secrets);
                view.serve
            }
        }
    }

    fn database(&mut self, grid: &Grid<'_>) {
        let connection = match &grid.database {
            Some(database) => {
                self.secrets.extend(database.authority.iter().map(|ca| (ca.name.clone(), ca.key.clone())));
                secret(&database.secret, &mut self.secrets)
            }
            None => Node::text(format!("sqlite:///{VOLUME_DIR}/grid.db")),
        };
        // A Job migrates PostgreSQL before any server starts; nothing but the server itself can reach SQLite.
        let automigrate = Node::flag(grid.database.is_none());
        let map = vec![("connection-string", connection), ("automigrate", automigrate)];
        self.connections.push(Node::anchored("!sql-connection", DATABASE, map));
    }
}

/// Another server of the grid, to which a server shows what workers show, where callers have to be known.
pub(super) fn remote(grid: &Grid<'_>, url: String) -> Vec<(&'static str, Node)> {
    let mut map = vec![("url", Node::text(url))];
    let mut credentials = grid.mutual_tls.as_ref().map_or(vec![], |m| client_credentials(&m.server));
    if grid.authorization.is_some() {
        credentials.push(("auth-token", Node::text(format!("{CREDENTIALS_DIR}/worker-token"))));
    }
    if !credentials.is_empty() {
        map.push(("credentials", Node::Map(credentials)));
    }
    map
}

fn scheduler(grid: &Grid<'_>, storage: &str) -> Node {
    let execution = &grid.spec.execution;
    let keys = |keys: &Option<Vec<String>>| Node::List(keys.iter().flatten().map(Node::text).collect());
    let mut properties = vec![];
    if execution.match_property_keys.is_some() {
        properties.push(("match-property-keys", keys(&execution.match_property_keys)));
    }
    if execution.wildcard_property_keys.is_some() {
        properties.push(("wildcard-property-keys", keys(&execution.wildcard_property_keys)));
    }
    let mut map = vec![
        ("storage", Node::alias(storage)),
        ("sql", Node::alias(DATABASE)),
        ("action-cache", Node::alias(RESULTS)),
        ("max-execution-timeout", Node::number(grid.max_execution_seconds)),
        ("fairness", Node::text("turns")),
        ("cohort-set", Node::tagged("!cohort-set", vec![("cohorts", Node::List(vec![all_workers()]))])),
    ];
    let grace = execution.refuse_unplaceable_after.as_ref().and_then(Span::seconds);
    map.extend(grace.map(|seconds| ("refuse-unplaceable-after", Node::number(seconds))));
    if !properties.is_empty() {
        map.push(("property-set", Node::tagged("!dynamic-property-set", properties)));
    }
    Node::anchored("!sql-scheduler", QUEUE, map)
}

/// The one cohort in which instances have quotas: a pool's bots all have the label of their operating system.
fn all_workers() -> Node {
    let labels = Node::List(vec![Node::text("linux")]);
    Node::Map(vec![("name", Node::text("workers")), ("property-labels", labels)])
}

fn remote_asset(spec: &RemoteAssetSpec, storage: (&'static str, Node), sql: (&'static str, Node)) -> Node {
    let mut map = vec![
        storage,
        sql,
        ("allow-updates", Node::flag(spec.allow_updates)),
        ("fetch", Node::flag(spec.fetch)),
    ];
    let hosts = spec.fetch_hosts.as_ref();
    map.extend(hosts.map(|hosts| ("fetch-hosts", Node::List(hosts.iter().map(Node::text).collect()))));
    Node::tagged("!remote-asset", map)
}

fn services(grid: &Grid<'_>, role: Role, executes: bool, storage: &str) -> Vec<Node> {
    let storage = || ("storage", Node::alias(storage));
    let sql = || ("sql", Node::alias(DATABASE));
    let scheduler = || ("scheduler", Node::alias(QUEUE));
    let mut services = vec![];
    if role.has_action_cache() {
        services.push(Node::tagged("!action-cache", vec![("cache", Node::alias(RESULTS))]));
    }
    if role.has_cas() {
        let chunking = ("enable-chunking", Node::flag(grid.spec.chunking.unwrap_or(true)));
        services.push(Node::tagged("!cas", vec![storage(), chunking]));
        services.push(Node::tagged("!bytestream", vec![storage(), sql()]));
        services.push(remote_asset(&grid.spec.remote_asset, storage(), sql()));
    }
    if role.has_cas() || executes {
        // With the executing servers too: they make the streams that workers write.
        services.push(Node::tagged("!logstream", vec![sql()]));
    }
    if role.has_execution() {
        services.push(Node::tagged("!build-events", vec![sql()]));
    }
    if executes && role.has_execution() {
        let endpoints = Node::List(vec![Node::text("execution"), Node::text("operations")]);
        services.push(Node::tagged("!execution", vec![scheduler(), ("endpoints", endpoints)]));
        services.push(Node::tagged("!introspection", vec![scheduler()]));
        services.push(Node::tagged("!fleet", vec![scheduler()]));
    }
    if executes && role.has_bots() {
        services.push(Node::tagged("!bots", vec![scheduler()]));
    }
    services
}
