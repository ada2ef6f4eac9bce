//! Action caches.

use super::misc::CREDENTIALS;
use super::storages::{ACCESS_KEY, SECRET_KEY};
use super::{Key, Kind, Section, Side, Status, Ty, default, key, mapped, required};

const STORAGE: Ty = Ty::Object(Kind::Storage);
const CACHE: Ty = Ty::Object(Kind::ActionCache);
const ENTRY_TYPES: Ty = Ty::OneOf(&["action-result-digest", "action-result"]);

const ALLOW_UPDATES: Key = default("allow-updates", Ty::Flag, "yes", "Whether clients may write.");
const CACHE_FAILED: Key = default(
    "cache-failed-actions",
    Ty::Flag,
    "yes",
    "Whether results with an exit code other than 0 are kept.",
);
const ENTRY_TYPE: Key = default(
    "entry-type",
    ENTRY_TYPES,
    "action-result-digest",
    "Whether an entry holds the result or its digest.",
);
const MIGRATE: Key = default(
    "migrate-entries",
    Ty::Flag,
    "no",
    "Whether an entry of the other type is rewritten when it is read.",
);
const SALT: Key = key("cache-key-salt", Ty::Text, "A part of every key, to keep users of one store apart.");
const RESULTS: Key = required("storage", STORAGE, "The storage with what the results name.");

const fn cache(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Section {
    Section { name, kind: Some(Kind::ActionCache), status: Status::Done, doc, keys }
}

static LRU: Section = cache(
    "!lru-action-cache",
    "Results in memory; the least recently used go first.",
    &[
        RESULTS,
        required("max-cached-refs", Ty::Whole(1, 1_000_000_000), "How many results are kept."),
        ALLOW_UPDATES,
        CACHE_FAILED,
    ],
);

static REDIS: Section = cache(
    "!redis-action-cache",
    "Results in Redis, under BuildGrid's keys.",
    &[
        RESULTS,
        key("redis", Ty::Object(Kind::RedisConnection), "The connection."),
        ALLOW_UPDATES,
        CACHE_FAILED,
        ENTRY_TYPE,
        MIGRATE,
        SALT,
        mapped("host", Ty::Text, "The older form of `redis: !redis-connection {host, port}`."),
        mapped("port", Ty::Whole(1, 65535), "See `host`."),
        mapped("password", Ty::Secret, "See `host`."),
        mapped("db", Ty::Whole(0, 65535), "See `host`."),
    ],
);

static S3: Section = cache(
    "!s3action-cache",
    "Results as objects of an S3 bucket, under BuildGrid's keys.",
    &[
        RESULTS,
        required("bucket", Ty::Text, "The bucket."),
        required("endpoint", Ty::Text, "The service's URL."),
        key("access-key", Ty::Secret, ACCESS_KEY),
        key("secret-key", Ty::Secret, SECRET_KEY),
        ALLOW_UPDATES,
        CACHE_FAILED,
        ENTRY_TYPE,
        MIGRATE,
        SALT,
    ],
);

static SQL: Section = cache(
    "!sql-action-cache",
    "Results in a database, which any number of servers may share; the first of several writers is the database's \
     decision, so that write-once holds for all. Our own.",
    &[
        RESULTS,
        key("sql", Ty::Object(Kind::SqlConnection), "The connection; without it the embedded database."),
        default(
            "max-entries",
            Ty::Whole(1, 1_000_000_000),
            "1000000",
            "How many results are kept; the least recently used go first.",
        ),
        key(
            "expire-unused-after",
            Ty::Period,
            "How long a result is kept that nobody asks for, to within an hour.",
        ),
        ALLOW_UPDATES,
        CACHE_FAILED,
        SALT,
    ],
);

static REMOTE: Section = cache(
    "!remote-action-cache",
    "The action cache of another server.",
    &[
        required("url", Ty::Text, "`http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`."),
        key("instance-name", Ty::Text, "The instance there; without it the one that is called here."),
        key("credentials", Ty::Record(&CREDENTIALS), "What is shown to the server."),
        key("channel-options", Ty::ChannelOptions(Side::Client), "gRPC's options for the connection."),
        default("retries", Ty::Whole(0, 100), "3", "How often a call is tried again."),
        default("max-backoff", Ty::Seconds(0.0), "64", "The longest wait between two tries."),
        key("request-timeout", Ty::Seconds(0.0), "How long a call may take."),
    ],
);

static WITH_CACHE: Section = cache(
    "!with-cache-action-cache",
    "A fast cache before a lasting one.",
    &[
        required("cache", CACHE, "The fast cache."),
        required("fallback", CACHE, "The lasting cache."),
        ALLOW_UPDATES,
        CACHE_FAILED,
    ],
);

static MIRRORED: Section = cache(
    "!mirrored-action-cache",
    "Two caches that are kept alike; answers that differ are counted.",
    &[
        required("first", CACHE, "The cache that answers."),
        required(
            "second",
            CACHE,
            "The cache that is compared with it, and answers where the first has nothing.",
        ),
    ],
);

static SHARDED: Section = cache(
    "!sharded-action-cache",
    "Each result in one of several caches, by rendezvous hashing of its action's digest.",
    &[
        required("shards", Ty::List(&Ty::Record(&CACHE_SHARD)), "The caches with their names."),
        ALLOW_UPDATES,
        CACHE_FAILED,
        SALT,
    ],
);

/// One shard.
pub(crate) static CACHE_SHARD: Section = Section {
    name: "shards[] (of an action cache)",
    kind: None,
    status: Status::Done,
    doc: "One cache of a `!sharded-action-cache`.",
    keys: &[
        required(
            "name",
            Ty::Text,
            "Its name, of letters, digits and `-`; it decides which results are there, so it never changes.",
        ),
        required("cache", CACHE, "The cache."),
    ],
};

static WRITE_ONCE: Section = cache(
    "!write-once-action-cache",
    "A cache whose entries are never replaced.",
    &[required("action-cache", CACHE, "The cache that holds the entries.")],
);

pub(super) const SECTIONS: &[&Section] =
    &[&LRU, &REDIS, &S3, &SQL, &REMOTE, &WITH_CACHE, &MIRRORED, &SHARDED, &CACHE_SHARD, &WRITE_ONCE];
