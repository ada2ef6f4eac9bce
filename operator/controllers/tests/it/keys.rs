//! docs/crd-fields.md: the keys of a BuildGrid configuration with the fields that say the same; all others need `configFrom`.
//!
//! Every field that is named exists in its schema, and every key in the server's own table. `GRID_BLESS=1` writes the file.

use std::fmt::Write;
use std::path::Path;

use grid_config::table::{Section, Status, sections};
use grid_operator_api::{BuildGrid, CasStorage};
use kube::CustomResourceExt;
use serde_json::Value;

/// Section, key, and the field: `grid` of a BuildGrid's spec, `cas` of a CasStorage's.
const FIELDS: &[(&str, &str, &str)] = &[
    ("!lru-storage", "size", "cas storages[].lru.size"),
    ("!disk-storage", "max-size", "cas storages[].disk.size"),
    ("!s3-storage", "bucket", "cas storages[].s3.bucket"),
    ("!s3-storage", "endpoint", "cas storages[].s3.endpoint"),
    ("!s3-storage", "access-key", "cas storages[].s3.credentials.accessKey"),
    ("!s3-storage", "secret-key", "cas storages[].s3.credentials.secretKey"),
    ("!s3-storage", "hash-prefix-size", "cas storages[].s3.hashPrefixSize"),
    ("!s3-storage", "path-prefix-string", "cas storages[].s3.pathPrefix"),
    ("!redis-storage", "redis", "cas storages[].redis"),
    ("!redis-connection", "host", "cas storages[].redis.host"),
    ("!redis-connection", "port", "cas storages[].redis.port"),
    ("!redis-connection", "db", "cas storages[].redis.db"),
    ("!redis-connection", "password", "cas storages[].redis.password"),
    ("!sql-storage", "sql", "cas storages[].sql.database"),
    ("!remote-storage", "url", "cas storages[].remote.url"),
    ("!remote-storage", "instance-name", "cas storages[].remote.instanceName"),
    ("!remote-storage", "credentials", "cas storages[].remote.credentials"),
    ("!with-cache-storage", "cache", "cas storages[].withCache.cache"),
    ("!with-cache-storage", "fallback", "cas storages[].withCache.fallback"),
    ("!with-cache-storage", "defer-fallback-writes", "cas storages[].withCache.deferFallbackWrites"),
    (
        "!size-differentiated-storage",
        "size-limited-storages",
        "cas storages[].sizeDifferentiated.sizeLimitedStorages",
    ),
    ("!size-differentiated-storage", "fallback", "cas storages[].sizeDifferentiated.fallback"),
    ("!sharded-storage", "shards", "cas storages[].sharded.shards"),
    ("!replicated-storage", "storages", "cas storages[].replicated.storages"),
    ("!replicated-storage", "replication-queue-size", "cas storages[].replicated.copyQueueSize"),
    ("!sql-index", "storage", "cas storages[].sqlIndex.storage"),
    ("!sql-index", "sql", "cas storages[].sqlIndex.database"),
    ("!sql-index", "max-inline-blob-size", "cas storages[].sqlIndex.maxInlineBlobSize"),
    ("!sql-index", "promised-lifetime", "cas storages[].sqlIndex.promisedLifetime"),
    ("!zstd-storage", "storage", "cas storages[].zstd.storage"),
    ("!zstd-storage", "level", "cas storages[].zstd.level"),
    ("cleanup[]", "high-watermark", "cas cleanup.highWatermark"),
    ("cleanup[]", "low-watermark", "cas cleanup.lowWatermark"),
    ("cleanup[]", "batch-size", "cas cleanup.batchSize"),
    ("cleanup[]", "only-if-unused-for", "cas cleanup.onlyIfUnusedFor"),
    ("!sql-connection", "connection-string", "grid database.secretRef"),
    ("an instance", "name", "grid instances"),
    ("!lru-action-cache", "max-cached-refs", "grid actionCache.lru.maxEntries"),
    ("!lru-action-cache", "allow-updates", "grid actionCache.allowUpdates"),
    ("!lru-action-cache", "cache-failed-actions", "grid actionCache.cacheFailedActions"),
    ("!sql-action-cache", "max-entries", "grid actionCache.sql.maxEntries"),
    ("!sql-action-cache", "expire-unused-after", "grid actionCache.sql.expireUnusedAfter"),
    ("!sql-action-cache", "allow-updates", "grid actionCache.allowUpdates"),
    ("!sql-action-cache", "cache-failed-actions", "grid actionCache.cacheFailedActions"),
    ("!redis-action-cache", "redis", "grid actionCache.redis"),
    ("!redis-action-cache", "allow-updates", "grid actionCache.allowUpdates"),
    ("!redis-action-cache", "cache-failed-actions", "grid actionCache.cacheFailedActions"),
    ("!s3action-cache", "bucket", "grid actionCache.s3.bucket"),
    ("!s3action-cache", "endpoint", "grid actionCache.s3.endpoint"),
    ("!s3action-cache", "access-key", "grid actionCache.s3.credentials.accessKey"),
    ("!s3action-cache", "secret-key", "grid actionCache.s3.credentials.secretKey"),
    ("!s3action-cache", "allow-updates", "grid actionCache.allowUpdates"),
    ("!s3action-cache", "cache-failed-actions", "grid actionCache.cacheFailedActions"),
    ("!remote-action-cache", "url", "grid actionCache.remote.url"),
    ("!remote-action-cache", "instance-name", "grid actionCache.remote.instanceName"),
    ("!write-once-action-cache", "action-cache", "grid actionCache.writeOnce"),
    ("!sql-scheduler", "max-execution-timeout", "grid execution.maxExecutionTimeout"),
    ("!sql-scheduler", "refuse-unplaceable-after", "grid execution.refuseUnplaceableAfter"),
    ("!dynamic-property-set", "match-property-keys", "grid execution.matchPropertyKeys"),
    ("!dynamic-property-set", "wildcard-property-keys", "grid execution.wildcardPropertyKeys"),
    ("!cas", "enable-chunking", "grid chunking"),
    ("!remote-asset", "allow-updates", "grid remoteAsset.allowUpdates"),
    ("!remote-asset", "fetch", "grid remoteAsset.fetch"),
    ("!remote-asset", "fetch-hosts", "grid remoteAsset.fetchHosts"),
    ("authorization", "secret", "grid authorization.jwt.keySecretRef"),
    ("authorization", "jwks-url", "grid authorization.jwt.keySetUrls"),
    ("authorization", "audience", "grid authorization.jwt.audiences"),
    ("authorization", "algorithm", "grid authorization.jwt.algorithm"),
    ("authorization", "acl-config", "grid authorization.aclFrom"),
    ("authorization", "allow-unauthenticated-instances", "grid authorization.openInstances"),
    ("tracing", "endpoint", "grid tracing.endpoint"),
    ("tracing", "sample", "grid tracing.samplePercent"),
    ("rates", "per-subject", "grid rates.perSubject"),
    ("rates", "per-connection", "grid rates.perConnection"),
    ("grpc-web", "origins", "grid grpcWeb.origins"),
    ("credentials (of a channel)", "tls-server-cert", "grid mutualTls"),
    ("credentials (of a channel)", "tls-server-key", "grid mutualTls"),
    ("credentials (of a channel)", "tls-client-certs", "grid mutualTls"),
];

const HEAD: &str = "# Fields of the resources for keys of a configuration

<!-- Generated by the tests of grid-operator-controllers (tests/it/keys.rs); GRID_BLESS=1 writes it anew. -->

Who comes from BuildGrid finds here what says the same on Kubernetes: a field of a BuildGrid's or a CasStorage's `spec`. A key
that is not listed has none: the operator writes what a whole grid needs, and where you need it otherwise, `spec.configFrom` of the
BuildGrid takes your configuration as it is, with every key of [configuration](configuration.md).
";

fn schema(resource: &str) -> Value {
    let crd = if resource == "cas" { CasStorage::crd() } else { BuildGrid::crd() };
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    serde_json::to_value(schema).unwrap()["properties"]["spec"].clone()
}

fn exists(field: &str) -> bool {
    let (resource, path) = field.split_once(' ').unwrap();
    let step = |schema: Value, name: &str| match name.strip_suffix("[]") {
        Some(list) => schema["properties"][list]["items"].clone(),
        None => schema["properties"][name].clone(),
    };
    path.split('.').fold(schema(resource), step).is_object()
}

fn has_effect(status: Status) -> bool {
    matches!(status, Status::Done)
}

fn table(section: &Section) -> String {
    let fields = FIELDS.iter().filter(|(of, ..)| *of == section.name);
    let rows = fields.map(|(_, key, field)| {
        let (resource, path) = field.split_once(' ').unwrap();
        let kind = if resource == "cas" { "CasStorage" } else { "BuildGrid" };
        format!("| `{key}` | {kind} `spec.{path}` |\n")
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        rows
    } else {
        format!("\n## {}\n\n| key | field |\n|---|---|\n{rows}", section.name)
    }
}

#[test]
fn keys_and_fields_are_there() {
    for (section, key, field) in FIELDS {
        let known = sections().find(|s| s.name == *section).and_then(|s| s.key(key));
        assert!(known.is_some_and(|key| has_effect(key.status)), "{section} has no {key}");
        assert!(exists(field), "{field} is in no schema");
    }
    let mut text = HEAD.to_owned();
    for section in sections().filter(|section| has_effect(section.status)) {
        write!(text, "{}", table(section)).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/crd-fields.md");
    if std::env::var_os("GRID_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text, "run it with GRID_BLESS=1");
}
