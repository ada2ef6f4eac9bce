//! Values to try the table with, and the smallest sound documents around them.

use grid_config::table::{Key, Kind, Need, Section, Side, Status, Ty, sections};

/// Two different values of a type, as flow YAML.
pub(crate) fn samples(section: &Section, key: &Key) -> [String; 2] {
    if let Some(pair) = special(section.name, key.name) {
        return pair.map(str::to_owned);
    }
    samples_of(key.ty)
}

/// Values that a rule beyond the type asks for.
fn special(section: &str, key: &str) -> Option<[&'static str; 2]> {
    Some(match (section, key) {
        (_, "url") => ["'http://a:1'", "'http://b:1'"],
        (_, "connection-string") => ["'sqlite:///a'", "'sqlite:///b'"],
        ("!channel" | "admin", "address") => ["'127.0.0.1:1'", "'127.0.0.1:2'"],
        ("monitoring", "endpoint-location") => ["'a:1'", "'b:1'"],
        ("!replicated-storage", "storages") => [
            "[!lru-storage {size: 1}, !lru-storage {size: 2}]",
            "[!lru-storage {size: 3}, !lru-storage {size: 2}]",
        ],
        ("!zstd-storage", "storage") => ["!disk-storage {path: /a}", "!disk-storage {path: /b}"],
        ("property-labels[]", "properties") => ["[[a, b]]", "[[a, c]]"],
        ("cleanup[]", "index") => [
            "!redis-index {storage: !lru-storage {size: 1}, redis: !redis-connection {host: a, port: 1}}",
            "!redis-index {storage: !lru-storage {size: 2}, redis: !redis-connection {host: a, port: 1}}",
        ],
        ("cleanup[]", "high-watermark" | "high-blob-count-watermark") => ["100", "101"],
        ("cleanup[]", "low-watermark" | "low-blob-count-watermark") => ["10", "11"],
        ("an instance", "services") => ["[!memory-build-events {}]", "[!logstream {}]"],
        ("!logstream", "storage") => ["!memory-logstream-storage {}", "!logstream {}"],
        ("the document", "limiter") => ["a", "b"],
        ("grpc-web", "origins") => ["['http://a']", "['http://b']"],
        ("the document", "health-of") => {
            ["[{url: 'http://a:1', services: [a]}]", "[{url: 'http://b:1', services: [a]}]"]
        }
        ("!remote-asset", "fetch-proxy") => ["'http://a:1'", "'http://b:1'"],
        ("tracing", "endpoint") => ["'http://a:1'", "'http://b:1'"],
        ("tracing", "sample") => ["0.25", "0.5"],
        _ => return None,
    })
}

fn samples_of(ty: Ty) -> [String; 2] {
    let pair = match ty {
        Ty::Text | Ty::Secret => ["a", "b"],
        Ty::Path => ["/a", "/b"],
        Ty::Flag => ["yes", "no"],
        Ty::Whole(min, max) => return [max.min(min + 3).to_string(), min.to_string()],
        Ty::Number(min, _) | Ty::Seconds(min) => return [(min + 1.5).to_string(), (min + 2.5).to_string()],
        Ty::Size => ["1M", "2M"],
        Ty::Period => ["{days: 1}", "{days: 1, seconds: 0.5}"],
        Ty::OneOf(words) => return [words[0].to_owned(), words[words.len() - 1].to_owned()],
        Ty::Names => ["a", "[a, b]"],
        Ty::TextMap => ["{a: b}", "{a: c}"],
        Ty::ChannelOptions(Side::Client) => ["{keepalive-time-ms: 1}", "{keepalive-time-ms: 2}"],
        Ty::ChannelOptions(Side::Server) => ["{grpc.keepalive_time_ms: 1}", "{grpc.keepalive_time_ms: 2}"],
        Ty::List(item) => return samples_of(*item).map(|sample| format!("[{sample}]")),
        Ty::Object(kind) => return objects(kind),
        Ty::AnyOf(kinds) => return objects(kinds[0]),
        Ty::Record(section) => return [minimal(section, None), richer(section)],
    };
    pair.map(str::to_owned)
}

fn objects(kind: Kind) -> [String; 2] {
    let pair = match kind {
        Kind::Channel => ["!channel {address: 'unix:a'}", "!channel {address: 'unix:b'}"],
        Kind::SqlConnection => [
            "!sql-connection {connection-string: 'sqlite:///a'}",
            "!sql-connection {connection-string: 'sqlite:///b'}",
        ],
        Kind::RedisConnection => {
            ["!redis-connection {host: a, port: 1}", "!redis-connection {host: b, port: 1}"]
        }
        Kind::Storage => ["!lru-storage {size: 1}", "!lru-storage {size: 2}"],
        Kind::ActionCache => [
            "!lru-action-cache {storage: !lru-storage {size: 1}, max-cached-refs: 1}",
            "!lru-action-cache {storage: !lru-storage {size: 1}, max-cached-refs: 2}",
        ],
        Kind::Scheduler => [
            "!sql-scheduler {storage: !lru-storage {size: 1}}",
            "!sql-scheduler {storage: !lru-storage {size: 2}}",
        ],
        Kind::Service => ["!memory-build-events {}", "!logstream {}"],
        Kind::ServerService => [
            "!quota-service {scheduler: !sql-scheduler {storage: !lru-storage {size: 1}}}",
            "!quota-service {scheduler: !sql-scheduler {storage: !lru-storage {size: 2}}}",
        ],
        Kind::PropertySet => ["!dynamic-property-set {}", "!dynamic-property-set {label-key: ISA}"],
        Kind::CohortSet => [
            "!cohort-set {cohorts: [{name: a, property-labels: [x]}]}",
            "!cohort-set {cohorts: [{name: b, property-labels: [x]}]}",
        ],
        Kind::Assigner => {
            ["!priority-age-assigner {}", "!priority-age-assigner {priority-assignment-percentage: 50}"]
        }
        Kind::Strategy => ["!assign-by-capacity {}", "!assign-by-locality {}"],
        Kind::Sampling => ["!sampling-config {}", "!sampling-config {sample-size: 1}"],
        Kind::Weights => ["!sampling-weights {}", "!sampling-weights {priority: 1}"],
        Kind::QueueTimeout => [
            "!queue-timeout-thread {job-max-age: {days: 1}}",
            "!queue-timeout-thread {job-max-age: {days: 2}}",
        ],
        Kind::Metering => [
            "!metering {redis: !redis-connection {host: a, port: 1}}",
            "!metering {redis: !redis-connection {host: b, port: 1}}",
        ],
        Kind::AssetClient => ["!asset-client {url: 'http://a:1'}", "!asset-client {url: 'http://b:1'}"],
        Kind::Sentry => ["!sentry {}", "!sentry {dsn: a}"],
    };
    pair.map(str::to_owned)
}

/// Keys that a key only makes sense beside, as flow YAML; and, where the required keys are in its way, without them.
pub(crate) fn companions(section: &str, key: &str) -> &'static str {
    match (section, key) {
        ("!channel", "address" | "port") => "",
        ("!channel", "credentials") => "address: 'unix:a', insecure-mode: no",
        ("!channel", _) => "address: 'unix:a'",
        ("!s3-storage" | "!s3action-cache", "access-key") => "secret-key: a",
        ("!s3-storage" | "!s3action-cache", "secret-key") => "access-key: a",
        ("!redis-storage" | "!redis-action-cache", "redis") => "",
        ("!redis-storage" | "!redis-action-cache", "host") => "port: 1",
        ("!redis-storage" | "!redis-action-cache", "port") => "host: a",
        ("!redis-storage" | "!redis-action-cache", _) => "host: a, port: 1",
        ("!sql-index", "sql" | "connection-string") => "",
        ("!sql-index", _) => "connection-string: 'sqlite:///x'",
        (
            "!sql-scheduler" | "!memory-scheduler" | "!sql-data-store" | "!memory-data-store",
            "connection-timeout" | "lock-timeout" | "pool-size" | "max-overflow" | "pool-timeout"
            | "pool-pre-ping" | "pool-recycle" | "automigrate",
        ) => "connection-string: 'sqlite:///x'",
        (_, "metering-throttle-action") => {
            "metering: !metering {redis: !redis-connection {host: a, port: 1}}"
        }
        (_, "pruner-max-delete-window") => "pruner-job-max-age: {days: 1}",
        ("!with-cache-storage", "fallback-writer-threads") => "defer-fallback-writes: yes",
        ("!action-cache", "cache") => "",
        ("!action-cache", "storage") => "max-cached-refs: 1",
        ("!action-cache", "max-cached-refs") => "storage: !lru-storage {size: 1}",
        ("!action-cache", _) => "storage: !lru-storage {size: 1}, max-cached-refs: 1",
        ("!bytestream", "storage") => "",
        ("!bytestream", _) => "storage: !lru-storage {size: 1}",
        ("!execution" | "!bots", "data-store") => "",
        ("authorization", "secret") => "method: jwt, algorithm: rs256",
        ("authorization", "jwks-url") => "method: jwt, algorithm: rs256, audience: x",
        ("authorization", "audience") => "method: jwt, algorithm: rs256, jwks-url: x",
        ("authorization", "algorithm") => "method: jwt, secret: /x",
        ("authorization", "jwks-fetch-minutes") => "method: jwt, algorithm: rs256, jwks-url: x, audience: x",
        ("authorization", "url") => "method: server",
        ("authorization", "request-timeout" | "credentials") => "method: server, url: 'http://a:1'",
        ("authorization", "method") => "algorithm: rs256, secret: /x, url: 'http://a:1'",
        ("authorization", _) => "method: headers",
        ("monitoring", "endpoint-type") => "endpoint-location: 'a:1'",
        ("monitoring", "endpoint-location") => "endpoint-type: udp",
        ("cleanup[]", "high-blob-count-watermark") => "low-blob-count-watermark: 1",
        ("cleanup[]", "low-blob-count-watermark") => "high-blob-count-watermark: 1000",
        ("cleanup[]", "large-blob-threshold") => "large-blob-lifetime: {days: 1}",
        ("cleanup[]", "large-blob-lifetime") => "large-blob-threshold: 1",
        ("credentials (of a client)", "tls-client-key") => "tls-client-cert: /x",
        ("credentials (of a client)", "tls-client-cert") => "tls-client-key: /x",
        ("credentials (of a client)", "token-refresh-seconds") => "auth-token: /x",
        ("the document", _) => "",
        _ => "",
    }
}

/// A mapping with the required keys, the key's companions, and the key itself with a value.
pub(crate) fn mapping(section: &Section, probe: Option<(&str, &str)>) -> String {
    let name = probe.map_or("", |(name, _)| name);
    let mut pairs: Vec<String> = Vec::new();
    let beside = companions(section.name, name);
    for key in section.keys {
        let stands =
            key.name == name || beside.split(", ").any(|pair| pair.starts_with(&format!("{}:", key.name)));
        let replaced = section.key(name).and_then(|probe| probe.target) == Some(key.name);
        if key.need == Need::Required && !stands && !replaced {
            pairs.push(format!("{}: {}", key.name, samples(section, key)[0]));
        }
    }
    if !beside.is_empty() {
        pairs.push(beside.to_owned());
    }
    if let Some((name, value)) = probe {
        pairs.push(format!("{name}: {value}"));
    }
    let tag = if section.kind.is_some() { format!("{} ", section.name) } else { String::new() };
    format!("{tag}{{{}}}", pairs.join(", "))
}

fn minimal(section: &Section, probe: Option<(&str, &str)>) -> String {
    mapping(section, probe)
}

/// A record that differs from the minimal one.
fn richer(section: &Section) -> String {
    let optional =
        |key: &&Key| key.status == Status::Done && key.need != Need::Required && !only_refused(key);
    let key = section.keys.iter().rfind(optional);
    let required = section.keys.iter().rfind(|key| key.need == Need::Required);
    match (key, required) {
        (Some(key), _) => mapping(section, Some((key.name, &samples(section, key)[0]))),
        (None, Some(key)) => mapping(section, Some((key.name, &samples(section, key)[1]))),
        (None, None) => mapping(section, None),
    }
}

/// The smallest document around a section's mapping.
pub(crate) fn document(section: &Section, text: &str) -> String {
    const SERVES: &str = "server: [!channel {address: 'unix:s'}]\n";
    let lru = "!lru-storage {size: 1}";
    let instance = |rest: &str| format!("{SERVES}instances: [{{name: '', {rest}}}]");
    let scheduler = |key: &str, value: &str| {
        format!("{SERVES}instances: []\nschedulers: [!sql-scheduler {{storage: {lru}, {key}: {value}}}]")
    };
    let with = |key: &str| format!("{SERVES}instances: []\n{key}: {text}");
    let list = |key: &str| format!("{SERVES}instances: []\n{key}: [{text}]");
    let remote = |key: &str| {
        format!("{SERVES}instances: []\nstorages: [!remote-storage {{url: 'http://a:1', {key}: {text}}}]")
    };
    let assigner = |text: &str| {
        scheduler("assigners", &format!("[!priority-age-assigner {{bot-assignment-strategy: {text}}}]"))
    };
    match (section.kind, section.name) {
        (Some(Kind::Channel), _) => format!("instances: []\nserver: [{text}]"),
        (Some(Kind::SqlConnection | Kind::RedisConnection), _) => list("connections"),
        (Some(Kind::Storage), _) => list("storages"),
        (Some(Kind::ActionCache), _) => list("caches"),
        (Some(Kind::Scheduler), _) => list("schedulers"),
        (Some(Kind::Service), _) => instance(&format!("services: [{text}]")),
        (Some(Kind::ServerService), _) => list("services"),
        (Some(Kind::PropertySet), _) => scheduler("property-set", text),
        (Some(Kind::CohortSet), _) => scheduler("cohort-set", text),
        (Some(Kind::Assigner), "!cohort-assigner") => {
            let cohorts = "[{name: a, property-labels: [x]}, {name: b, property-labels: [y]}]";
            scheduler("cohort-set", &format!("!cohort-set {{cohorts: {cohorts}}}, assigners: [{text}]"))
        }
        // Beside another, for how much it weighs shows only there.
        (Some(Kind::Assigner), _) => scheduler(
            "assigners",
            &format!("[{text}, !priority-age-assigner {{priority-assignment-percentage: 0}}]"),
        ),
        (Some(Kind::Strategy), _) => assigner(text),
        (Some(Kind::Sampling), _) => assigner(&format!("!assign-by-capacity {{sampling: {text}}}")),
        (Some(Kind::Weights), _) => {
            assigner(&format!("!assign-by-capacity {{sampling: !sampling-config {{weights: {text}}}}}"))
        }
        (Some(Kind::QueueTimeout), _) => scheduler("queue-timeout-configs", &format!("[{text}]")),
        (Some(Kind::Metering), _) => scheduler("metering", text),
        (Some(Kind::AssetClient), _) => list("clients"),
        (Some(Kind::Sentry), _) => with("sentry"),
        (None, "the document") => text.trim_start_matches('{').trim_end_matches('}').to_owned(),
        (None, "an instance") => format!("{SERVES}instances: [{text}]"),
        (None, "credentials (of a channel)") => {
            format!("instances: []\nserver: [!channel {{address: 'unix:s', credentials: {text}}}]")
        }
        (None, "grid-credentials") => with("grid-credentials"),
        (None, "pod") => format!(
            "instances: []\nserver: [!channel {{address: 'localhost:1', insecure-mode: yes}}]\npod: {text}"
        ),
        (None, "size-limited-storages[]") => {
            format!(
                "{SERVES}instances: []\nstorages: [!size-differentiated-storage {{fallback: {lru}, size-limited-storages: [{text}]}}]"
            )
        }
        (None, "shards[] (of a storage)") => {
            format!("{SERVES}instances: []\nstorages: [!sharded-storage {{shards: [{text}]}}]")
        }
        (None, "shards[] (of an action cache)") => {
            format!("{SERVES}instances: []\ncaches: [!sharded-action-cache {{shards: [{text}]}}]")
        }
        (None, "logstream (of a scheduler)") => scheduler("logstream", text),
        (None, "instanced-browser-urls[]") => scheduler("instanced-browser-urls", &format!("[{text}]")),
        (None, "instanced-queue-size[]") => scheduler("instanced-queue-size", &format!("[{text}]")),
        (None, "property-labels[]") => {
            scheduler("property-set", &format!("!static-property-set {{property-labels: [{text}]}}"))
        }
        (None, "cohorts[]") => scheduler("cohort-set", &format!("!cohort-set {{cohorts: [{text}]}}")),
        (None, "sets[]") => scheduler("property-set", &format!("!instanced-property-set {{sets: [{text}]}}")),
        (None, "authorization") => with("authorization"),
        (None, "monitoring") => with("monitoring"),
        (None, name @ ("grpc-web" | "rates" | "tracing")) => with(name),
        (None, "health-of[]") => list("health-of"),
        (None, "cleanup[]") => format!("cleanup: [{text}]"),
        (None, "admin") => with("admin"),
        (None, "credentials (of a client)") => remote("credentials"),
        (None, "period") => scheduler("pruner-job-max-age", text),
        (None, other) => panic!("{other} has no document"),
    }
}

/// A probe of the document itself stands beside what every document needs.
pub(crate) fn whole(section: &Section, key: &Key, value: &str) -> String {
    if section.name != "the document" {
        return document(section, &mapping(section, Some((key.name, value))));
    }
    let serves = [("server", "[!channel {address: 'unix:s'}]"), ("instances", "[]")];
    let rest = serves
        .into_iter()
        .filter(|(name, _)| *name != key.name)
        .map(|(name, value)| format!("{name}: {value}\n"));
    format!("{}{}: {value}", rest.collect::<String>(), key.name)
}

/// Keys whose only tags are refused: there is no value to try.
pub(crate) fn only_refused(key: &Key) -> bool {
    let kinds = match key.ty {
        Ty::Object(kind) => vec![kind],
        Ty::List(Ty::Object(kind)) => vec![*kind],
        _ => return false,
    };
    sections().filter(|s| s.kind.is_some_and(|kind| kinds.contains(&kind))).all(|s| !usable(s))
}

/// Whether objects with this tag can be made at all.
pub(crate) fn usable(section: &Section) -> bool {
    matches!(section.status, Status::Done | Status::Mapped(_))
}
