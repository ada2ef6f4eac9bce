//! Services.

use std::sync::Arc;
use std::time::Duration;

use super::decoder::{Decoder, Memo, Tagged};
use super::edges::is_url;
use super::{Fields, caches, record};
use crate::model::{
    ActionCache, ActionCacheService, AssetFetch, Bots, BuildEvents, ByteStream, Cas, Endpoints, Execution,
    Fleet, Introspection, Item, LogStream, Operations, Place, Quota, RemoteAsset, SchedulerOverrides,
    ServerService, Service,
};
use crate::table::Kind;

impl Tagged for Service {
    const KIND: Kind = Kind::Service;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.services
    }

    fn read(tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        match tag {
            "action-cache" => action_cache(f).map(Self::ActionCache),
            "cas" => cas(f).map(Self::Cas),
            "bytestream" => bytestream(f).map(Self::ByteStream),
            "execution" => execution(f).map(Self::Execution),
            "bots" => bots(f).map(Self::Bots),
            "operations" => record!(f => Operations {
                scheduler: req("scheduler"),
                max_page_size: or("max-list-operations-page-size"),
            })
            .map(Self::Operations),
            "fleet" => record!(f => Fleet { scheduler: req("scheduler") }).map(Self::Fleet),
            "introspection" => {
                record!(f => Introspection { scheduler: req("scheduler") }).map(Self::Introspection)
            }
            "logstream" => {
                record!(f => LogStream { prefix: or("prefix"), sql: opt("sql"), retention: or("retention") })
                    .map(Self::LogStream)
            }
            "memory-logstream-storage" => {
                Some(Self::LogStream(LogStream { prefix: String::new(), sql: None, retention: LOGS_STAY }))
            }
            "build-events" => record!(f => BuildEvents {
                sql: opt("sql"),
                retention: or("retention"),
                max_answer: or("max-answer"),
                max_stream_size: or("max-stream-size"),
            })
            .map(Self::BuildEvents),
            "memory-build-events" => Some(Self::BuildEvents(BuildEvents {
                sql: None,
                retention: EVENTS_STAY,
                max_answer: EVENTS_ANSWERED,
                max_stream_size: EVENTS_KEPT,
            })),
            "remote-asset" => remote_asset(f).map(Self::RemoteAsset),
            "reference-cache" => reference_cache(f).map(Self::RemoteAsset),
            _ => no_decoder(tag, f),
        }
    }
}

impl Tagged for ServerService {
    const KIND: Kind = Kind::ServerService;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.server_services
    }

    fn read(tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        match tag {
            "quota-service" => record!(f => Quota { scheduler: req("scheduler") }).map(Self::Quota),
            _ => no_decoder(tag, f),
        }
    }
}

/// Every tag that isn't refused has a decoder; a test sees to it.
fn no_decoder<T>(tag: &str, f: &mut Fields<'_, '_>) -> Option<T> {
    f.error(format!("a defect of grid-server: !{tag} has no decoder; please report it"));
    None
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long things stay in the services whose older tags can't say it.
const LOGS_STAY: Duration = DAY.saturating_mul(7);
const EVENTS_STAY: Duration = DAY.saturating_mul(30);
const ASSETS_STAY: Duration = DAY.saturating_mul(90);
/// How large they may get there, in bytes.
const EVENTS_ANSWERED: u64 = 64 << 20;
const EVENTS_KEPT: u64 = 1 << 30;

/// With `cache`, or in the older form with a cache of its own in memory.
fn action_cache(f: &mut Fields<'_, '_>) -> Option<ActionCacheService> {
    if f.has("cache") {
        for key in ["storage", "max-cached-refs", "allow-updates", "cache-failed-actions"] {
            f.no_effect(key, "`cache` says it");
        }
        return record!(f => ActionCacheService { cache: req("cache") });
    }
    if !f.has("storage") {
        f.missing("cache");
        return None;
    }
    let value = ActionCache::Lru(caches::lru(f)?);
    let place = Place { path: f.decoder.path(), tag: f.section.name, anchor: None, mark: f.mark };
    Some(ActionCacheService { cache: Arc::new(Item { place, value }) })
}

fn cas(f: &mut Fields<'_, '_>) -> Option<Cas> {
    record!(f => Cas {
        storage: req("storage"),
        read_only: or("read-only"),
        chunking: or("enable-chunking"),
        max_blob_size: opt("max-blob-size"),
    })
}

fn bytestream(f: &mut Fields<'_, '_>) -> Option<ByteStream> {
    record!(f => ByteStream {
        storage: opt("storage"),
        read_only: or("read-only"),
        always_receive: or("disable-overwrite-early-return"),
        sql: opt("sql"),
        max_blob_size: opt("max-blob-size"),
    })
}

fn remote_asset(f: &mut Fields<'_, '_>) -> Option<RemoteAsset> {
    let fetch = f.or("fetch");
    let rules = record!(f => AssetFetch {
        hosts: or("fetch-hosts"),
        internal_hosts: or("fetch-internal-hosts"),
        proxy: opt("fetch-proxy"),
        max_size: or("max-fetch-size"),
    });
    if let Some(wrong) = rules.as_ref().and_then(|rules| rules.proxy.as_ref()).filter(|url| !is_url(url)) {
        f.error_at("fetch-proxy", format!("expected http://HOST:PORT, found `{wrong}`"));
        return None;
    }
    let storage = f.req("storage");
    let sql = f.opt("sql");
    let allow_updates = f.or("allow-updates");
    let retention = f.or("retention");
    Some(RemoteAsset {
        storage: storage?,
        sql: sql?,
        allow_updates: allow_updates?,
        retention: retention?,
        fetch: if fetch? { Some(rules?) } else { None },
    })
}

/// BuildStream's artifacts were only ever pushed.
fn reference_cache(f: &mut Fields<'_, '_>) -> Option<RemoteAsset> {
    let storage = f.req("storage");
    let allow_updates = f.or("allow-updates");
    Some(RemoteAsset {
        storage: storage?,
        sql: None,
        allow_updates: allow_updates?,
        retention: ASSETS_STAY,
        fetch: None,
    })
}

fn execution(f: &mut Fields<'_, '_>) -> Option<Execution> {
    let endpoints = endpoints(f);
    let scheduler = f.req("scheduler");
    let stream_keepalive = f.or("operation-stream-keepalive-timeout");
    let max_page_size = f.or("max-list-operations-page-size");
    let command_allowlist = f.opt("command-allowlist");
    let long_poll_when_busy = f.or("bots-long-poll-during-execution");
    let discard_unwatched = f.or("discard-unwatched-jobs");
    let overrides = overrides(f);
    Some(Execution {
        scheduler: scheduler?,
        overrides: overrides?,
        stream_keepalive: stream_keepalive?,
        endpoints: endpoints?,
        max_page_size: max_page_size?,
        command_allowlist: command_allowlist?,
        long_poll_when_busy: long_poll_when_busy?,
        discard_unwatched: discard_unwatched?,
    })
}

fn endpoints(f: &mut Fields<'_, '_>) -> Option<Endpoints> {
    let Some(named) = f.opt::<Vec<String>>("endpoints")? else {
        return Some(Endpoints { execution: true, operations: true, bots: true });
    };
    let has = |name: &str| named.iter().any(|endpoint| endpoint == name);
    let endpoints =
        Endpoints { execution: has("execution"), operations: has("operations"), bots: has("bots") };
    if named.is_empty() {
        f.error_at("endpoints", "expected at least one of execution, operations, bots".to_owned());
        return None;
    }
    Some(endpoints)
}

fn bots(f: &mut Fields<'_, '_>) -> Option<Bots> {
    let scheduler = f.req("scheduler");
    let long_poll_when_busy = f.or("long-poll-during-execution");
    let storage = f.opt("storage");
    let action_cache = f.opt("action-cache");
    let bot_session_keepalive = f.opt("bot-session-keepalive-timeout");
    Some(Bots {
        scheduler: scheduler?,
        overrides: SchedulerOverrides {
            storage: storage?,
            action_cache: action_cache?,
            bot_session_keepalive: bot_session_keepalive?,
            ..SchedulerOverrides::default()
        },
        long_poll_when_busy: long_poll_when_busy?,
    })
}

fn overrides(f: &mut Fields<'_, '_>) -> Option<SchedulerOverrides> {
    record!(f => SchedulerOverrides {
        storage: opt("storage"),
        action_cache: opt("action-cache"),
        max_execution_timeout: opt("max-execution-timeout"),
        bot_session_keepalive: opt("bot-session-keepalive-timeout"),
        browser_url: opt("action-browser-url"),
        property_keys: opt("property-keys"),
        wildcard_property_keys: opt("wildcard-property-keys"),
    })
}
