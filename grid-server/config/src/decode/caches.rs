//! Action caches.

use std::sync::Arc;

use super::connections::remote;
use super::decoder::{Decode, Decoder, Memo, Tagged};
use super::storages::{bucket_template, s3_keys, shard_names};
use super::{Fields, inline, record};
use crate::model::{
    ActionCache, CacheEntries, CachePolicy, CacheShard, EntryType, LruActionCache, MirroredActionCache,
    RedisActionCache, RemoteActionCache, S3ActionCache, Service, ShardedActionCache, Shared, SqlActionCache,
    WithCacheActionCache, WriteOnceActionCache,
};
use crate::table::{CACHE_SHARD, Kind, Ty};
use crate::yaml::Child;

impl Tagged for ActionCache {
    const KIND: Kind = Kind::ActionCache;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.caches
    }

    fn read(tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        match tag {
            "lru-action-cache" => lru(f).map(Self::Lru),
            "redis-action-cache" => redis(f).map(Self::Redis),
            "s3action-cache" => s3(f).map(Self::S3),
            "sql-action-cache" => sql(f).map(Self::Sql),
            "remote-action-cache" => remote(f).map(|remote| Self::Remote(RemoteActionCache { remote })),
            "with-cache-action-cache" => with_cache(f).map(Self::WithCache),
            "mirrored-action-cache" => {
                record!(f => MirroredActionCache { first: req("first"), second: req("second") })
                    .map(Self::Mirrored)
            }
            "sharded-action-cache" => sharded(f).map(Self::Sharded),
            "write-once-action-cache" => {
                record!(f => WriteOnceActionCache { action_cache: req("action-cache") }).map(Self::WriteOnce)
            }
            _ => {
                f.error(format!("a defect of grid-server: !{tag} has no decoder; please report it"));
                None
            }
        }
    }

    /// An `!action-cache` service stands for its cache: older configurations anchor the service.
    fn stand_in(child: &Child, tag: &str, decoder: &mut Decoder<'_>) -> Option<Option<Shared<Self>>> {
        if tag != "action-cache" {
            return None;
        }
        let service = Shared::<Service>::decode(child, Ty::Object(Kind::Service), decoder);
        Some(match service.as_deref().map(|service| &service.value) {
            Some(Service::ActionCache(service)) => Some(Arc::clone(&service.cache)),
            _ => None,
        })
    }
}

pub(super) fn lru(f: &mut Fields<'_, '_>) -> Option<LruActionCache> {
    let storage = f.req("storage");
    let max_refs = f.req("max-cached-refs");
    let policy = policy(f);
    Some(LruActionCache { storage: storage?, max_refs: max_refs?, policy: policy? })
}

/// Whether clients may write, and whether failures are kept: both yes unless something else is said.
pub(super) fn policy(f: &mut Fields<'_, '_>) -> Option<CachePolicy> {
    let allow_updates = f.opt("allow-updates");
    let cache_failed_actions = f.opt("cache-failed-actions");
    Some(CachePolicy {
        allow_updates: allow_updates?.unwrap_or(true),
        cache_failed_actions: cache_failed_actions?.unwrap_or(true),
    })
}

fn entries(f: &mut Fields<'_, '_>) -> Option<CacheEntries> {
    let entry_type = f.or::<String>("entry-type");
    let migrate = f.or("migrate-entries");
    let salt = f.opt("cache-key-salt");
    let entry_type = match entry_type?.as_str() {
        "action-result" => EntryType::ActionResult,
        _ => EntryType::ActionResultDigest,
    };
    Some(CacheEntries { entry_type, migrate: migrate?, salt: salt? })
}

fn redis(f: &mut Fields<'_, '_>) -> Option<RedisActionCache> {
    let storage = f.req("storage");
    let redis = inline::redis(f);
    let policy = policy(f);
    let entries = entries(f);
    Some(RedisActionCache { storage: storage?, redis: redis?, policy: policy?, entries: entries? })
}

fn s3(f: &mut Fields<'_, '_>) -> Option<S3ActionCache> {
    let storage = f.req("storage");
    let bucket = f.req::<String>("bucket");
    let endpoint = f.req("endpoint");
    let keys = s3_keys(f);
    let policy = policy(f);
    let entries = entries(f);
    let bucket = bucket?;
    if !bucket_template(f, &bucket) {
        return None;
    }
    Some(S3ActionCache {
        storage: storage?,
        bucket,
        endpoint: endpoint?,
        keys: keys?,
        policy: policy?,
        entries: entries?,
    })
}

fn sql(f: &mut Fields<'_, '_>) -> Option<SqlActionCache> {
    let storage = f.req("storage");
    let sql = f.opt("sql");
    let max_entries = f.or("max-entries");
    let expire_unused_after = f.opt("expire-unused-after");
    let policy = policy(f);
    let salt = f.opt("cache-key-salt");
    Some(SqlActionCache {
        storage: storage?,
        sql: sql?,
        max_entries: max_entries?,
        expire_unused_after: expire_unused_after?,
        policy: policy?,
        salt: salt?,
    })
}

fn with_cache(f: &mut Fields<'_, '_>) -> Option<WithCacheActionCache> {
    let cache = f.req("cache");
    let fallback = f.req("fallback");
    let policy = policy(f);
    Some(WithCacheActionCache { cache: cache?, fallback: fallback?, policy: policy? })
}

fn sharded(f: &mut Fields<'_, '_>) -> Option<ShardedActionCache> {
    let shards = f.req::<Vec<CacheShard>>("shards");
    let policy = policy(f);
    let salt = f.opt("cache-key-salt");
    let shards = shards?;
    if !shard_names(f, shards.iter().map(|shard| shard.name.as_str())) {
        return None;
    }
    Some(ShardedActionCache { shards, policy: policy?, salt: salt? })
}

impl Decode for CacheShard {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &CACHE_SHARD, decoder)?;
        let f = &mut fields;
        record!(f => CacheShard { name: req("name"), cache: req("cache") })
    }
}
