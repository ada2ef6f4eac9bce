//! Storages.

use std::collections::BTreeSet;

use super::connections::remote;
use super::decoder::{Decode, Decoder, Memo, Tagged};
use super::{Fields, inline, record};
use crate::model::{
    DiskStorage, ExistenceCache, LruStorage, RedisFmbCache, RedisIndex, RedisStorage, RemoteStorage,
    ReplicatedStorage, S3Storage, Secret, Shard, ShardedStorage, SizeDifferentiatedStorage, SizeLimited,
    SqlIndex, SqlStorage, Storage, WithCacheStorage, ZstdStorage,
};
use crate::table::{Kind, SHARD, SIZE_LIMITED, Ty};
use crate::yaml::Child;

/// The most digests that BuildGrid puts into one statement.
const STATEMENT_LIMIT: usize = 24_000;

impl Tagged for Storage {
    const KIND: Kind = Kind::Storage;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.storages
    }

    fn read(tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        match tag {
            "lru-storage" => record!(f => LruStorage { size: req("size") }).map(Self::Lru),
            "disk-storage" => disk(f).map(Self::Disk),
            "redis-storage" => inline::redis(f).map(|redis| Self::Redis(RedisStorage { redis })),
            "s3-storage" => s3(f).map(Self::S3),
            "sql-storage" => sql(f).map(Self::Sql),
            "remote-storage" => remote(f).map(|remote| Self::Remote(RemoteStorage { remote })),
            "with-cache-storage" => with_cache(f).map(Self::WithCache),
            "size-differentiated-storage" => size_differentiated(f).map(Self::SizeDifferentiated),
            "sharded-storage" => sharded(f).map(Self::Sharded),
            "replicated-storage" => replicated(f).map(Self::Replicated),
            "sql-index" => sql_index(f).map(Self::SqlIndex),
            "redis-index" => redis_index(f).map(Self::RedisIndex),
            "redis-fmb-cache" => fmb_cache(f).map(Self::RedisFmbCache),
            "existence-cache" => existence_cache(f).map(Self::ExistenceCache),
            "zstd-storage" => zstd(f).map(Self::Zstd),
            _ => {
                f.error(format!("a defect of grid-server: !{tag} has no decoder; please report it"));
                None
            }
        }
    }
}

fn disk(f: &mut Fields<'_, '_>) -> Option<DiskStorage> {
    record!(f => DiskStorage { path: req("path"), max_size: opt("max-size") })
}

fn s3(f: &mut Fields<'_, '_>) -> Option<S3Storage> {
    let keys = s3_keys(f);
    let bucket = f.req("bucket");
    let endpoint = f.req("endpoint");
    let read_timeout_per_kilobyte = f.opt("read-timeout-seconds-per-kilobyte");
    let write_timeout_per_kilobyte = f.opt("write-timeout-seconds-per-kilobyte");
    let read_timeout_min = f.or("read-timeout-min-seconds");
    let write_timeout_min = f.or("write-timeout-min-seconds");
    let versioned_deletes = f.or("versioned-deletes");
    let hash_prefix_size = f.or("hash-prefix-size");
    let path_prefix = f.opt("path-prefix-string");
    let storage = S3Storage {
        bucket: bucket?,
        endpoint: endpoint?,
        keys: keys?,
        read_timeout_per_kilobyte: read_timeout_per_kilobyte?,
        write_timeout_per_kilobyte: write_timeout_per_kilobyte?,
        read_timeout_min: read_timeout_min?,
        write_timeout_min: write_timeout_min?,
        versioned_deletes: versioned_deletes?,
        hash_prefix_size: hash_prefix_size?,
        path_prefix: path_prefix?,
    };
    bucket_template(f, &storage.bucket).then_some(storage)
}

/// The two keys of an S3 service, or none.
pub(super) fn s3_keys(f: &mut Fields<'_, '_>) -> Option<Option<(Secret, Secret)>> {
    let access = f.opt("access-key");
    let secret = f.opt("secret-key");
    match (access?, secret?) {
        (Some(access), Some(secret)) => Some(Some((access, secret))),
        (None, None) => Some(None),
        _ => {
            f.error("`access-key` and `secret-key` go together: give both or none".to_owned());
            None
        }
    }
}

/// Whether a bucket's name holds no other template than `{digest[N]}`.
pub(super) fn bucket_template(f: &mut Fields<'_, '_>, bucket: &str) -> bool {
    let mut rest = bucket;
    let sound = loop {
        let Some(at) = rest.find(['{', '}']) else { break true };
        let index = rest[at..].strip_prefix("{digest[").and_then(|after| after.split_once("]}"));
        match index {
            Some((digits, after)) if digits.parse::<u8>().is_ok_and(|index| index < 64) => rest = after,
            _ => break false,
        }
    };
    if !sound {
        let message = format!(
            "expected a bucket's name in which at most {{digest[0]}} to {{digest[63]}} stand for digits of the hash, found `{bucket}`"
        );
        f.error_at("bucket", message);
    }
    sound
}

fn sql(f: &mut Fields<'_, '_>) -> Option<SqlStorage> {
    record!(f => SqlStorage { sql: req("sql") })
}

fn with_cache(f: &mut Fields<'_, '_>) -> Option<WithCacheStorage> {
    let storage = record!(f => WithCacheStorage {
        cache: req("cache"),
        fallback: req("fallback"),
        defer_fallback_writes: or("defer-fallback-writes"),
        fallback_writers: or("fallback-writer-threads"),
    })?;
    if !storage.defer_fallback_writes {
        f.no_effect("fallback-writer-threads", "`defer-fallback-writes` is off");
    }
    Some(storage)
}

fn size_differentiated(f: &mut Fields<'_, '_>) -> Option<SizeDifferentiatedStorage> {
    let limited = f.req::<Vec<SizeLimited>>("size-limited-storages");
    let fallback = f.req("fallback");
    let mut limited = limited?;
    limited.sort_by_key(|entry| entry.max_size);
    Some(SizeDifferentiatedStorage { limited, fallback: fallback? })
}

impl Decode for SizeLimited {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &SIZE_LIMITED, decoder)?;
        let f = &mut fields;
        record!(f => SizeLimited { max_size: req("max-size"), storage: req("storage") })
    }
}

fn sharded(f: &mut Fields<'_, '_>) -> Option<ShardedStorage> {
    let shards: Vec<Shard> = f.req("shards")?;
    shard_names(f, shards.iter().map(|shard| shard.name.as_str())).then_some(ShardedStorage { shards })
}

/// Whether shards have names, each of its own, that a rendezvous hash can take.
pub(super) fn shard_names<'s>(f: &mut Fields<'_, '_>, names: impl Iterator<Item = &'s str>) -> bool {
    let mut seen = BTreeSet::new();
    let mut sound = true;
    for name in names {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            f.error_at("shards", format!("expected names of letters, digits and `-`, found `{name}`"));
            sound = false;
        } else if !seen.insert(name) {
            f.error_at("shards", format!("two shards are called `{name}`; each needs a name of its own"));
            sound = false;
        }
    }
    if seen.is_empty() && sound {
        f.error_at("shards", "expected at least one shard".to_owned());
        return false;
    }
    sound
}

impl Decode for Shard {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &SHARD, decoder)?;
        let f = &mut fields;
        record!(f => Shard { name: req("name"), storage: req("storage") })
    }
}

fn replicated(f: &mut Fields<'_, '_>) -> Option<ReplicatedStorage> {
    let storage = record!(f => ReplicatedStorage {
        storages: req("storages"),
        queue_size: or("replication-queue-size"),
        workers: or("replication-threads"),
        read_replication: or("read-replication"),
    })?;
    if storage.storages.len() < 2 {
        f.error_at("storages", "expected two storages or more to replicate between".to_owned());
        return None;
    }
    Some(storage)
}

fn sql_index(f: &mut Fields<'_, '_>) -> Option<SqlIndex> {
    let storage = f.req("storage");
    let sql = inline::sql(f);
    let name = f.or("index-name");
    let window_size = f.or("window-size");
    let limit = f.opt("inclause-limit");
    let max_inline_size = f.or("max-inline-blob-size");
    let refresh = f.or("refresh-accesstime-older-than");
    let promised_lifetime = f.or("promised-lifetime");
    let Some(sql) = sql? else {
        f.error("`sql` is missing from !sql-index: the connection to the database with the index".to_owned());
        return None;
    };
    let window_size: usize = window_size?;
    Some(SqlIndex {
        storage: storage?,
        sql,
        name: name?,
        window_size,
        statement_limit: limit?.unwrap_or_else(|| window_size.min(STATEMENT_LIMIT)),
        max_inline_size: max_inline_size?,
        refresh_access_after: refresh?,
        promised_lifetime: promised_lifetime?,
    })
}

fn zstd(f: &mut Fields<'_, '_>) -> Option<ZstdStorage> {
    let storage = record!(f => ZstdStorage { storage: req("storage"), level: or("level") })?;
    let holds = matches!(
        storage.storage.value,
        Storage::Disk(_) | Storage::Redis(_) | Storage::S3(_) | Storage::Sql(_)
    );
    if !holds {
        f.error_at(
            "storage",
            "expected the backend that holds the packed blobs: !disk-storage, !redis-storage, !s3-storage or \
             !sql-storage; whatever else there is stands in front of !zstd-storage"
                .to_owned(),
        );
    }
    holds.then_some(storage)
}

fn redis_index(f: &mut Fields<'_, '_>) -> Option<RedisIndex> {
    record!(f => RedisIndex {
        storage: req("storage"),
        redis: req("redis"),
        prefix: or("prefix"),
        promised_lifetime: or("promised-lifetime"),
    })
}

fn fmb_cache(f: &mut Fields<'_, '_>) -> Option<RedisFmbCache> {
    let storage = f.req("storage");
    let redis = f.req("redis");
    let ttl = f.req::<u64>("ttl-secs");
    let prefix = f.or("prefix");
    Some(RedisFmbCache {
        storage: storage?,
        redis: redis?,
        ttl: std::time::Duration::from_secs(ttl?),
        prefix: prefix?,
    })
}

fn existence_cache(f: &mut Fields<'_, '_>) -> Option<ExistenceCache> {
    let storage = f.req("storage");
    let ttl = f.req::<u64>("ttl-secs");
    let max_entries = f.or("max-entries");
    let ttl = std::time::Duration::from_secs(ttl?);
    Some(ExistenceCache { storage: storage?, ttl, max_entries: max_entries? })
}
