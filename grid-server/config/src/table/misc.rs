//! Untagged mappings: authorization, monitoring, cleanup, admin, client credentials, durations.

use super::{Key, Section, Status, Ty, default, key, required};

pub(super) const PERIOD_TY: Ty = Ty::Period;

const fn record(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Section {
    Section { name, kind: None, status: Status::Done, doc, keys }
}

/// Who may call.
pub(crate) static AUTHORIZATION: Section = record(
    "authorization",
    "Who may call. Which keys matter depends on `method`.",
    &[
        required(
            "method",
            Ty::OneOf(&["none", "headers", "jwt", "server"]),
            "`none`; `headers` that a proxy sets; `jwt` bearer tokens; or a `server` that is asked. With `none`, the certificates of mutual TLS tell who calls.",
        ),
        key(
            "secret",
            Ty::Path,
            "For `jwt`: the file with the secret or public key, read again when it changes. With `jwks-url` too, that is used.",
        ),
        key("jwks-url", Ty::Names, "For `jwt`: where the keys are fetched, or several such places."),
        key(
            "audience",
            Ty::Names,
            "For `jwt`: the audiences that a token may be for; needed with `jwks-url`.",
        ),
        key(
            "algorithm",
            Ty::OneOf(&[
                "hs256", "hs384", "hs512", "rs256", "rs384", "rs512", "es256", "es384", "es512", "ps256",
                "ps384", "ps512",
            ]),
            "For `jwt`: the algorithm of the signatures.",
        ),
        default(
            "jwks-fetch-minutes",
            Ty::Whole(1, 100_000),
            "60",
            "For `jwt`: how often the keys are fetched; also when a token comes that none of them has signed, at most every 10 s.",
        ),
        key("url", Ty::Text, "For `server`: the server's URL."),
        default(
            "request-timeout",
            Ty::Seconds(0.001),
            "5",
            "For `server`: how long it may take to answer. An answer stands for 30 s.",
        ),
        key("credentials", Ty::Record(&CREDENTIALS), "For `server`: what is shown to it."),
        key(
            "acl-config",
            Ty::Path,
            "A file with who may call what, read again when it changes. `actor` and `subject` are patterns that must match whole; BuildGrid takes a prefix, so write `release-.*` for `release-`. With `server`, it is for callers that need no token: those of open instances and of this machine.",
        ),
        default(
            "cache-writers",
            Ty::List(&Ty::Text),
            "[]",
            "Subjects that may record results and push assets in instances with execution, where else the scheduler alone does; an ACL decides by itself. Our own.",
        ),
        default(
            "allow-unauthenticated-instances",
            Ty::List(&Ty::Text),
            "[]",
            "Instances that everybody may call.",
        ),
        default(
            "allow-localhost-requests",
            Ty::Flag,
            "no",
            "Whether calls from this machine, over loopback or a UNIX socket, need no authentication.",
        ),
    ],
);

/// BuildGrid's metrics.
pub(crate) static MONITORING: Section = record(
    "monitoring",
    "Where BuildGrid's metrics are published. Prometheus metrics are on the admin address in any case.",
    &[
        default("enabled", Ty::Flag, "yes", "Whether anything is published."),
        default("endpoint-type", Ty::OneOf(&["stdout", "file", "socket", "udp"]), "stdout", "Where to."),
        key(
            "endpoint-location",
            Ty::Text,
            "The file, the name of the socket to listen at, or `HOST:PORT`; needed for all but `stdout`.",
        ),
        default("serialization-format", Ty::OneOf(&["binary", "json", "statsd"]), "statsd", "In which form."),
        key("metric-prefix", Ty::Text, "What every metric's name starts with."),
        default(
            "tag-format",
            Ty::OneOf(&["none", "influx-statsd", "dogstatsd", "graphite"]),
            "influx-statsd",
            "How tags are written in the `statsd` form.",
        ),
        default("additional-tags", Ty::TextMap, "{}", "Tags that every metric gets."),
    ],
);

/// A storage to keep within bounds.
pub(crate) static CLEANUP: Section = record(
    "cleanup[]",
    "One index whose storage `grid-server cleanup` keeps within bounds.",
    &[
        required("instance-name", Ty::Text, "The name in logs and metrics."),
        required(
            "index",
            Ty::Object(super::Kind::Storage),
            "The index: an `!sql-index` or a `!redis-index`.",
        ),
        required("high-watermark", Ty::Whole(0, i64::MAX as u64), "The bytes from which blobs are deleted."),
        required("low-watermark", Ty::Whole(0, i64::MAX as u64), "The bytes to which they are."),
        required("batch-size", Ty::Whole(1, i64::MAX as u64), "How many bytes are deleted at a time."),
        key(
            "high-blob-count-watermark",
            Ty::Whole(0, i64::MAX as u64),
            "The number of blobs from which they are deleted.",
        ),
        key("low-blob-count-watermark", Ty::Whole(0, i64::MAX as u64), "The number to which they are."),
        key("only-if-unused-for", PERIOD_TY, "Blobs used since then stay."),
        key(
            "large-blob-threshold",
            Ty::Whole(0, i64::MAX as u64),
            "Larger blobs go by `large-blob-lifetime`.",
        ),
        key("large-blob-lifetime", PERIOD_TY, "How long large blobs stay when they aren't used."),
        default("retry-limit", Ty::Whole(0, 1000), "10", "How often a failed pass is tried again."),
    ],
);

/// The admin address.
pub(crate) static ADMIN: Section = record(
    "admin",
    "Plain HTTP for `/metrics`, `/healthz`, `/readyz`; never for clients. Our own.",
    &[default("address", Ty::Text, "127.0.0.1:8980", "`HOST:PORT`.")],
);

/// Servers beside this one.
pub(crate) static HEALTH_OF: Section = record(
    "health-of[]",
    "Another server of the grid, whose services' health this one tells under their names: for a way in that leads to one server for health and to others for what they serve. What it does not answer for, or not at all, does not serve. Our own.",
    &[
        required("url", Ty::Text, "The server's URL."),
        required(
            "services",
            Ty::List(&Ty::Text),
            "The full names of its services. Of one that this server has too, the other's health is told.",
        ),
        key("credentials", Ty::Record(&CREDENTIALS), "What is shown to it."),
    ],
);

/// Pages in browsers.
pub(crate) static GRPC_WEB: Section = record(
    "grpc-web",
    "Pages in browsers that may call, by gRPC-web over HTTP/2 and HTTP/1.1. Our own.",
    &[required(
        "origins",
        Ty::List(&Ty::Text),
        "The pages' origins, as `https://HOST[:PORT]`; `*` for any. A page of another origin gets no answer that its browser shows it.",
    )],
);

/// How fast callers may be.
pub(crate) static RATES: Section = record(
    "rates",
    "How many calls a second callers may make. Ten seconds' worth may come at once; then each call waits until it is due; whoever is more than 20 s ahead gets RESOURCE_EXHAUSTED with the time to come again. Calls with the worker or admin token, Bots, health and reflection don't count. Our own.",
    &[
        key("per-subject", Ty::Whole(1, 1_000_000), "Of one subject, as authentication tells it."),
        key(
            "per-connection",
            Ty::Whole(1, 1_000_000),
            "Over one connection. Behind a proxy that is one of the proxy's, which many clients share.",
        ),
    ],
);

/// Where traces go.
pub(crate) static TRACING: Section = record(
    "tracing",
    "Where OpenTelemetry traces are sent: a span for each call, beneath that of the client's `traceparent`; beneath that of an Execute or WaitExecution the action's time in the queue, and on its worker to fetch, execute and upload. A client decides by its `traceparent` whether its calls are traced. Our own.",
    &[
        required(
            "endpoint",
            Ty::Text,
            "The collector's URL for OTLP over HTTP, without a path, as `http://HOST:4318`.",
        ),
        default(
            "sample",
            Ty::Number(0.0, 1.0),
            "0",
            "Which part of the calls is traced whose clients say nothing of traces.",
        ),
        default("service-name", Ty::Text, "grid-server", "What the spans' `service.name` is."),
    ],
);

/// What a client shows.
pub(crate) static CREDENTIALS: Section = record(
    "credentials (of a client)",
    "What a connection to another server shows. The files are read again when they change.",
    &[
        key("tls-client-key", Ty::Path, "The client's private key, PEM."),
        key("tls-client-cert", Ty::Path, "The client's certificate chain, PEM."),
        key(
            "tls-server-cert",
            Ty::Path,
            "Certificates of the authorities that the server's must come from, PEM; without it the system's.",
        ),
        key("auth-token", Ty::Path, "A file with a bearer token."),
        key(
            "token-refresh-seconds",
            Ty::Seconds(0.0),
            "How often the token is read again; without it when the file changes.",
        ),
    ],
);

/// A duration.
pub(crate) static PERIOD: Section = record(
    "period",
    "A duration: the sum of its parts, each a number.",
    &[
        default("weeks", Ty::Number(0.0, 1e6), "0", "Weeks."),
        default("days", Ty::Number(0.0, 1e6), "0", "Days."),
        default("hours", Ty::Number(0.0, 1e6), "0", "Hours."),
        default("minutes", Ty::Number(0.0, 1e9), "0", "Minutes."),
        default("seconds", Ty::Number(0.0, 1e9), "0", "Seconds."),
    ],
);

pub(super) const SECTIONS: &[&Section] = &[
    &AUTHORIZATION,
    &MONITORING,
    &CLEANUP,
    &ADMIN,
    &HEALTH_OF,
    &GRPC_WEB,
    &RATES,
    &TRACING,
    &CREDENTIALS,
    &PERIOD,
];
