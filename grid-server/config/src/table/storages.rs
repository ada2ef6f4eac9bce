//! Storages: backends and decorators.

use super::connections::POOL;
use super::misc::CREDENTIALS;
use super::{Kind, Section, Side, Status, Ty, default, key, mapped, required, warned};

const STORAGE: Ty = Ty::Object(Kind::Storage);
const SQL: Ty = Ty::Object(Kind::SqlConnection);
const REDIS: Ty = Ty::Object(Kind::RedisConnection);
const NO_THREADS: &str = "work runs in tasks, not in threads of its own";
/// Of S3 storages and action caches.
pub(super) const ACCESS_KEY: &str = "The access key; without it the environment's credentials are used: variables, the profile's files, a web identity, the machine's role.";
/// Of S3 storages and action caches.
pub(super) const SECRET_KEY: &str = "The secret key; goes with `access-key`.";

const fn storage(name: &'static str, doc: &'static str, keys: &'static [super::Key]) -> Section {
    Section { name, kind: Some(Kind::Storage), status: Status::Done, doc, keys }
}

static LRU: Section = storage(
    "!lru-storage",
    "Blobs in memory; the least recently used go first. Lost with the process.",
    &[required("size", Ty::Size, "How many bytes of blobs are kept.")],
);

static DISK: Section = storage(
    "!disk-storage",
    "Blobs as files of a directory, which belongs to this process alone.",
    &[
        required("path", Ty::Path, "The directory; made where it isn't there."),
        key(
            "max-size",
            Ty::Size,
            "How many bytes of blobs are kept; without it the disk is the limit. Our own.",
        ),
    ],
);

static REDIS_STORAGE: Section = storage(
    "!redis-storage",
    "Blobs as values in Redis, under BuildGrid's keys.",
    &[
        key("redis", REDIS, "The connection."),
        mapped("host", Ty::Text, "The older form of `redis: !redis-connection {host, port}`."),
        mapped("port", Ty::Whole(1, 65535), "See `host`."),
        mapped("password", Ty::Secret, "See `host`."),
        mapped("db", Ty::Whole(0, 65535), "See `host`."),
    ],
);

static S3: Section = storage(
    "!s3-storage",
    "Blobs as objects of an S3 bucket, under BuildGrid's keys.",
    &[
        required(
            "bucket",
            Ty::Text,
            "The bucket; `{digest[0]}` and so on stand for the hash's digits, for several buckets.",
        ),
        required("endpoint", Ty::Text, "The service's URL."),
        key("access-key", Ty::Secret, ACCESS_KEY),
        key("secret-key", Ty::Secret, SECRET_KEY),
        key("read-timeout-seconds-per-kilobyte", Ty::Seconds(0.0), "How long a read may take, by size."),
        key("write-timeout-seconds-per-kilobyte", Ty::Seconds(0.0), "How long a write may take, by size."),
        default("read-timeout-min-seconds", Ty::Seconds(0.0), "120", "How long any read may take."),
        default("write-timeout-min-seconds", Ty::Seconds(0.0), "120", "How long any write may take."),
        default("versioned-deletes", Ty::Flag, "no", "Whether a deletion removes all versions of an object."),
        default("hash-prefix-size", Ty::Whole(0, 64), "0", "How many of the hash's digits make a folder."),
        key("path-prefix-string", Ty::Text, "A folder of the bucket to stay in."),
    ],
);

static SQL_STORAGE: Section = storage(
    "!sql-storage",
    "Blobs as rows of a database, in parts of 1 MiB, up to 1 GiB each; for small ones.",
    &[
        required("sql", SQL, "The connection."),
        warned("sql-ro", SQL, "a copy may lack what was acknowledged just now"),
    ],
);

static REMOTE: Section = storage(
    "!remote-storage",
    "The CAS of another server.",
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

static WITH_CACHE: Section = storage(
    "!with-cache-storage",
    "A fast storage before a lasting one. What exists is always asked of the lasting one.",
    &[
        required("cache", STORAGE, "The fast storage."),
        required("fallback", STORAGE, "The lasting storage."),
        default(
            "defer-fallback-writes",
            Ty::Flag,
            "no",
            "Whether a write is done once the cache has it; until then it is as durable as the cache: what a process did not come to write, the next one writes where the cache is a `!disk-storage`.",
        ),
        default(
            "fallback-writer-threads",
            Ty::Whole(1, 1_000),
            "20",
            "How many deferred writes run at once.",
        ),
    ],
);

static SIZE_DIFFERENTIATED: Section = storage(
    "!size-differentiated-storage",
    "Different storages for blobs of different sizes.",
    &[
        required(
            "size-limited-storages",
            Ty::List(&Ty::Record(&SIZE_LIMITED)),
            "Storages with the sizes that they take.",
        ),
        required("fallback", STORAGE, "The storage for all larger blobs."),
        warned("thread-pool-size", Ty::Whole(0, 10_000), NO_THREADS),
    ],
);

/// One storage with its limit.
pub(crate) static SIZE_LIMITED: Section = Section {
    name: "size-limited-storages[]",
    kind: None,
    status: Status::Done,
    doc: "One storage of a `!size-differentiated-storage`.",
    keys: &[
        required("max-size", Ty::Size, "Blobs smaller than this go there."),
        required("storage", STORAGE, "The storage."),
    ],
};

static SHARDED: Section = storage(
    "!sharded-storage",
    "Each blob in one of several storages, by rendezvous hashing of its digest.",
    &[
        required("shards", Ty::List(&Ty::Record(&SHARD)), "The storages with their names."),
        warned("thread-pool-size", Ty::Whole(0, 10_000), NO_THREADS),
    ],
);

/// One shard.
pub(crate) static SHARD: Section = Section {
    name: "shards[] (of a storage)",
    kind: None,
    status: Status::Done,
    doc: "One storage of a `!sharded-storage`.",
    keys: &[
        required(
            "name",
            Ty::Text,
            "Its name, of letters, digits and `-`; it decides which blobs are there, so it never changes.",
        ),
        required("storage", STORAGE, "The storage."),
    ],
};

static REPLICATED: Section = storage(
    "!replicated-storage",
    "Each blob in all of several storages; a read repairs those that lack it.",
    &[
        required("storages", Ty::List(&STORAGE), "Two or more storages."),
        default(
            "replication-queue-size",
            Ty::Whole(0, 10_000_000),
            "0",
            "How many repairs may wait; 0 repairs none in the background.",
        ),
        default("replication-threads", Ty::Whole(1, 1_000), "1", "How many repairs run at once."),
        default("read-replication", Ty::Flag, "yes", "Whether a read repairs."),
    ],
);

const fn inline(from: super::Key) -> super::Key {
    mapped(from.name, from.ty, "The older form of the same key of `sql: !sql-connection`.")
}

static SQL_INDEX: Section = storage(
    "!sql-index",
    "An index of a storage in a database: existence, sizes and access times are asked of it alone.",
    &[
        required("storage", STORAGE, "The storage that is indexed."),
        key("sql", SQL, "The connection."),
        warned(
            "sql-ro",
            SQL,
            "whoever is told of a blob has noted its use in the same statement, which a copy can't do",
        ),
        default(
            "index-name",
            Ty::Text,
            "main",
            "Tells this index from others in the same database; servers that share a storage say the same. Our own.",
        ),
        default(
            "window-size",
            Ty::Whole(1, 1_000_000),
            "1000",
            "How many blobs one batch of `grid-server cleanup` deletes at most.",
        ),
        key(
            "inclause-limit",
            Ty::Whole(1, 1_000_000),
            "How many digests a statement asks for; without it, or with -1, the lesser of `window-size` and 24000.",
        ),
        default(
            "max-inline-blob-size",
            Ty::Whole(0, 1_000_000_000),
            "0",
            "Blobs up to this many bytes are kept in the index itself.",
        ),
        default(
            "refresh-accesstime-older-than",
            Ty::Seconds(0.0),
            "0",
            "An access time is written anew once it is this old.",
        ),
        default(
            "promised-lifetime",
            Ty::Period,
            "{hours: 3}",
            "How long a blob stays after a client was told of it. Our own.",
        ),
        mapped(
            "connection-string",
            Ty::Secret,
            "The older form of `sql: !sql-connection {connection-string}`.",
        ),
        inline(POOL[0]),
        inline(POOL[1]),
        inline(POOL[2]),
        inline(POOL[3]),
        inline(POOL[4]),
        POOL[5],
        inline(POOL[6]),
        inline(POOL[8]),
        warned(
            "fallback-on-get",
            Ty::Flag,
            "a blob that the index doesn't know is always looked for in the storage",
        ),
    ],
);

static REDIS_INDEX: Section = storage(
    "!redis-index",
    "An index of a storage in Redis.",
    &[
        required("storage", STORAGE, "The storage that is indexed."),
        required("redis", REDIS, "The connection."),
        default("prefix", Ty::Text, "A", "What the index's keys start with."),
        default(
            "promised-lifetime",
            Ty::Period,
            "{hours: 3}",
            "How long a blob stays after a client was told of it. Our own.",
        ),
    ],
);

static REDIS_FMB: Section = storage(
    "!redis-fmb-cache",
    "Remembers in Redis for a while which blobs exist; never which are missing. `cleanup` of an index behind it keeps blobs for that much longer, where both are in its configuration.",
    &[
        required("storage", STORAGE, "The storage that is asked otherwise."),
        required("redis", REDIS, "The connection."),
        required("ttl-secs", Ty::Whole(0, 31_536_000), "How long it is remembered, in seconds."),
        default("prefix", Ty::Text, "C", "What the keys start with."),
    ],
);

static EXISTENCE: Section = storage(
    "!existence-cache",
    "Remembers in the server's memory for a while which blobs exist; never which are missing. `cleanup` of an index behind it keeps blobs for that much longer, where both are in its configuration. Our own.",
    &[
        required("storage", STORAGE, "The storage that is asked otherwise."),
        required("ttl-secs", Ty::Whole(1, 31_536_000), "How long it is remembered, in seconds."),
        default(
            "max-entries",
            Ty::Whole(1, 1_000_000_000),
            "1000000",
            "How many blobs are remembered at most; each takes about 200 bytes.",
        ),
    ],
);

static ZSTD: Section = storage(
    "!zstd-storage",
    "Blobs packed by Zstandard in the backend behind it, whose limits count packed bytes. Packed blobs have names of their own: those that were there before are others, and not seen. Our own.",
    &[
        required(
            "storage",
            STORAGE,
            "The backend: `!disk-storage`, `!redis-storage`, `!s3-storage` or `!sql-storage`; nothing else uses it.",
        ),
        default("level", Ty::Whole(1, 19), "3", "How hard blobs are packed: 1 is fast, 19 is small."),
    ],
);

pub(super) const SECTIONS: &[&Section] = &[
    &LRU,
    &DISK,
    &REDIS_STORAGE,
    &S3,
    &SQL_STORAGE,
    &REMOTE,
    &WITH_CACHE,
    &SIZE_DIFFERENTIATED,
    &SIZE_LIMITED,
    &SHARDED,
    &SHARD,
    &REPLICATED,
    &SQL_INDEX,
    &REDIS_INDEX,
    &REDIS_FMB,
    &EXISTENCE,
    &ZSTD,
];
