//! gRPC services.

use super::{Key, Kind, Section, Status, Ty, default, key, mapped, required, spelling, warned};

const STORAGE: Ty = Ty::Object(Kind::Storage);
const CACHE: Ty = Ty::Object(Kind::ActionCache);
const SCHEDULER: Ty = Ty::Object(Kind::Scheduler);
const SQL: Ty = Ty::Object(Kind::SqlConnection);
const EMBEDDED: &str = "The database; without it the embedded one of the state directory, for one replica.";
const TEXTS: Ty = Ty::List(&Ty::Text);
const MAX_BLOB: &str = "The largest blob that is taken, which the capabilities tell: the smaller one of `!cas` and `!bytestream`. Without it any.";
const ON_SCHEDULER: &str =
    "The older place of the same key of the scheduler; it takes the place of what the scheduler says.";

const fn service(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Section {
    Section { name, kind: Some(Kind::Service), status: Status::Done, doc, keys }
}

static ACTION_CACHE: Section = service(
    "!action-cache",
    "The ActionCache service.",
    &[
        key("cache", CACHE, "The cache to serve."),
        mapped(
            "storage",
            STORAGE,
            "The older form of `cache: !lru-action-cache {storage}`; an alias of the service then stands for that cache.",
        ),
        mapped("max-cached-refs", Ty::Whole(1, 1_000_000_000), "See `storage`."),
        mapped("allow-updates", Ty::Flag, "See `storage`."),
        mapped("cache-failed-actions", Ty::Flag, "See `storage`."),
    ],
);

static CAS: Section = service(
    "!cas",
    "The ContentAddressableStorage service.",
    &[
        required("storage", STORAGE, "The storage to serve."),
        default("read-only", Ty::Flag, "no", "Whether writes are refused."),
        warned(
            "tree-cache-size",
            Ty::Whole(0, 100_000_000),
            "GetTree reads each directory of a tree once, in batches, and keeps none",
        ),
        warned(
            "tree-cache-redis",
            Ty::Object(Kind::RedisConnection),
            "GetTree reads each directory of a tree once, in batches, and keeps none",
        ),
        warned(
            "tree-cache-ttl-minutes",
            Ty::Number(0.0, 1e9),
            "a directory never changes under its digest, so nothing goes stale",
        ),
        default("enable-chunking", Ty::Flag, "no", "Whether SplitBlob and SpliceBlob are served."),
        key("max-blob-size", Ty::Size, MAX_BLOB),
        warned("chunked-by-buildbox-allowed-subjects", TEXTS, "a spliced blob is always verified"),
    ],
);

static BYTESTREAM: Section = service(
    "!bytestream",
    "The ByteStream service, for blobs and for log streams.",
    &[
        key(
            "storage",
            STORAGE,
            "The storage to serve; without it log streams alone, which `!logstream` beside it makes.",
        ),
        default("read-only", Ty::Flag, "no", "Whether writes are refused."),
        default(
            "disable-overwrite-early-return",
            Ty::Flag,
            "no",
            "Whether a blob that is there already is received anew.",
        ),
        key(
            "sql",
            SQL,
            "Where unfinished uploads of 32 MiB and more wait for a day, so that they resume on each replica; without it the embedded database, where another service of the server has one, else such uploads start again.",
        ),
        key("max-blob-size", Ty::Size, MAX_BLOB),
        warned("stream-blob", Ty::Flag, "blobs are always streamed"),
    ],
);

static EXECUTION: Section = service(
    "!execution",
    "The Execution, Operations and Bots services, or some of them.",
    &[
        required("scheduler", SCHEDULER, "The scheduler that queues the jobs."),
        spelling("data-store", SCHEDULER, "scheduler", "The older name of `scheduler`."),
        mapped("storage", STORAGE, ON_SCHEDULER),
        mapped("action-cache", CACHE, ON_SCHEDULER),
        default(
            "operation-stream-keepalive-timeout",
            Ty::Seconds(1.0),
            "600",
            "How often a stream that has no news repeats the last.",
        ),
        key(
            "endpoints",
            Ty::List(&Ty::OneOf(&["execution", "operations", "bots"])),
            "Which of the three; without it all.",
        ),
        default(
            "max-list-operations-page-size",
            Ty::Whole(1, 1_000_000),
            "1000",
            "How many operations a page of a list has at most.",
        ),
        spelling(
            "max-list-operation-page-size",
            Ty::Whole(1, 1_000_000),
            "max-list-operations-page-size",
            "Another spelling of `max-list-operations-page-size`.",
        ),
        key(
            "command-allowlist",
            TEXTS,
            "The programs that actions may run, each as it is written in the command; without it all.",
        ),
        default(
            "bots-long-poll-during-execution",
            Ty::Flag,
            "yes",
            "Whether a bot that has work already waits for more.",
        ),
        warned("log-action-input-size", Ty::Flag, "the sizes of inputs are in the workers' metrics"),
        mapped("max-execution-timeout", Ty::Seconds(1.0), ON_SCHEDULER),
        mapped("bot-session-keepalive-timeout", Ty::Seconds(1.0), ON_SCHEDULER),
        mapped("action-browser-url", Ty::Text, ON_SCHEDULER),
        mapped("property-keys", TEXTS, ON_SCHEDULER),
        mapped("wildcard-property-keys", TEXTS, ON_SCHEDULER),
        default(
            "discard-unwatched-jobs",
            Ty::Flag,
            "no",
            "Whether a job that no client waits for any longer is cancelled.",
        ),
        warned(
            "permissive-bot-session",
            Ty::Flag,
            "sessions are in the database: every bot may go on with any replica",
        ),
    ],
);

static BOTS: Section = service(
    "!bots",
    "The Bots service of the Remote Workers API.",
    &[
        required("scheduler", SCHEDULER, "The scheduler whose jobs the bots run."),
        spelling("data-store", SCHEDULER, "scheduler", "The older name of `scheduler`."),
        mapped("storage", STORAGE, ON_SCHEDULER),
        mapped("action-cache", CACHE, ON_SCHEDULER),
        default(
            "long-poll-during-execution",
            Ty::Flag,
            "yes",
            "Whether a bot that has work already waits for more.",
        ),
        mapped("bot-session-keepalive-timeout", Ty::Seconds(1.0), ON_SCHEDULER),
        warned(
            "permissive-bot-session",
            Ty::Flag,
            "sessions are in the database: every bot may go on with any replica",
        ),
    ],
);

static OPERATIONS: Section = service(
    "!operations",
    "The Operations service alone. Our own; in BuildGrid it is an endpoint of `!execution`.",
    &[
        required("scheduler", SCHEDULER, "The scheduler whose operations are shown."),
        default(
            "max-list-operations-page-size",
            Ty::Whole(1, 1_000_000),
            "1000",
            "How many operations a page of a list has at most.",
        ),
    ],
);

static FLEET: Section = service(
    "!fleet",
    "The Fleet service, by which an operator sees the queue and drains bots. Our own.",
    &[required("scheduler", SCHEDULER, "The scheduler that is looked at.")],
);

static LOGSTREAM: Section = service(
    "!logstream",
    "The LogStream service. Its streams are read and written by ByteStream.",
    &[
        default("prefix", Ty::Text, "", "What the names of the streams start with."),
        key("sql", SQL, EMBEDDED),
        default("retention", Ty::Period, "{days: 7}", "How long a stream stays after its last use."),
        warned("storage", Ty::Object(Kind::Service), "use `sql` for streams that several replicas share"),
    ],
);

static MEMORY_LOGSTREAM: Section = Section {
    name: "!memory-logstream-storage",
    kind: Some(Kind::Service),
    status: Status::Mapped("`!logstream` without `sql`."),
    doc: "BuildGrid's former store of log streams.",
    keys: &[],
};

static BUILD_EVENTS: Section = service(
    "!build-events",
    "The PublishBuildEvent and QueryBuildEvents services. Our own.",
    &[
        key("sql", SQL, EMBEDDED),
        default(
            "retention",
            Ty::Period,
            "{days: 30}",
            "How long a build's events stay after the last of them.",
        ),
        default(
            "max-answer",
            Ty::Size,
            "64M",
            "The most bytes of events that one query gives, in one message; gRPC's clients take messages of 4 MiB unless they are told otherwise.",
        ),
        default("max-stream-size", Ty::Size, "1G", "The most bytes of events that one stream keeps."),
    ],
);

static MEMORY_BUILD_EVENTS: Section = Section {
    name: "!memory-build-events",
    kind: Some(Kind::Service),
    status: Status::Mapped("`!build-events` without `sql`."),
    doc: "The PublishBuildEvent and QueryBuildEvents services, in memory.",
    keys: &[],
};

static REMOTE_ASSET: Section = service(
    "!remote-asset",
    "The Fetch and Push services of the Remote Asset API. Our own.",
    &[
        required("storage", STORAGE, "The storage with the assets' content."),
        key("sql", SQL, EMBEDDED),
        default("allow-updates", Ty::Flag, "yes", "Whether clients may push."),
        default("retention", Ty::Period, "{days: 90}", "How long an asset stays that nobody asks for."),
        default("fetch", Ty::Flag, "yes", "Whether http and https URIs that nobody pushed are fetched."),
        default(
            "fetch-hosts",
            TEXTS,
            "[]",
            "The hosts that may be fetched from, `*.example.org` for a domain; any where there are none.",
        ),
        default(
            "fetch-internal-hosts",
            TEXTS,
            "[]",
            "The hosts that may be fetched from though their addresses are not public.",
        ),
        key(
            "fetch-proxy",
            Ty::Text,
            "The HTTP proxy through which all is fetched, as `http://HOST:PORT`; without it the direct way. It resolves the names of hosts, and has to refuse those that lead inwards itself. Our own.",
        ),
        default("max-fetch-size", Ty::Size, "4G", "The largest asset that is fetched."),
    ],
);

static REFERENCE_CACHE: Section = Section {
    name: "!reference-cache",
    kind: Some(Kind::Service),
    status: Status::Mapped("`!remote-asset`, which BuildStream uses since it dropped the reference service."),
    doc: "BuildGrid's former service for BuildStream's artifacts.",
    keys: &[
        required("storage", STORAGE, "The storage with the artifacts."),
        warned("max-cached-refs", Ty::Whole(1, 1_000_000_000), "assets are kept until they expire"),
        default("allow-updates", Ty::Flag, "yes", "Whether clients may push."),
    ],
};

static INTROSPECTION: Section = service(
    "!introspection",
    "BuildGrid's Introspection service: the instance's workers, filters of operations, places in the queue and what \
     happened to a job.",
    &[required("scheduler", SCHEDULER, "The scheduler that is looked at.")],
);

static QUOTA: Section = Section {
    name: "!quota-service",
    kind: Some(Kind::ServerService),
    status: Status::Done,
    doc: "BuildGrid's Quota service: how many leases an instance is due, and may hold, in a cohort of the scheduler's \
          `cohort-set`. With `grid-credentials.admin-token` it asks for that token.",
    keys: &[required("scheduler", SCHEDULER, "The scheduler that holds to the quotas.")],
};

static BOTS_SERVICE: Section = Section {
    name: "!bots-service",
    kind: Some(Kind::ServerService),
    status: Status::Refused(
        "name a `!bots` service in each instance; this version has none for all instances",
    ),
    doc: "The Bots service for all instances.",
    keys: &[
        required("scheduler", SCHEDULER, "The scheduler whose jobs the bots run."),
        default(
            "long-poll-during-execution",
            Ty::Flag,
            "yes",
            "Whether a bot that has work already waits for more.",
        ),
    ],
};

pub(super) const SECTIONS: &[&Section] = &[
    &ACTION_CACHE,
    &CAS,
    &BYTESTREAM,
    &EXECUTION,
    &BOTS,
    &OPERATIONS,
    &FLEET,
    &LOGSTREAM,
    &MEMORY_LOGSTREAM,
    &BUILD_EVENTS,
    &MEMORY_BUILD_EVENTS,
    &REMOTE_ASSET,
    &REFERENCE_CACHE,
    &INTROSPECTION,
    &QUOTA,
    &BOTS_SERVICE,
];
