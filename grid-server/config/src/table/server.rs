//! The document's own keys, instances and channels.

use super::misc::{ADMIN, AUTHORIZATION, CLEANUP, GRPC_WEB, HEALTH_OF, MONITORING, RATES, TRACING};
use super::{
    Key, Kind, Section, Side, Status, Ty, default, key, mapped, refused, required, spelling, warned,
};

const STORAGES: Ty = Ty::List(&Ty::Object(Kind::Storage));
const CACHES: Ty = Ty::List(&Ty::Object(Kind::ActionCache));
const SCHEDULERS: Ty = Ty::List(&Ty::Object(Kind::Scheduler));
const CONNECTIONS: Ty = Ty::List(&Ty::AnyOf(&[Kind::SqlConnection, Kind::RedisConnection]));
const CLIENTS: Ty = Ty::List(&Ty::Object(Kind::AssetClient));

const NO_SENTRY: &str = "errors go to the log, where a collector finds them";

static TOP_KEYS: &[Key] = &[
    key("description", Ty::Text, "What the configuration is for, for its readers."),
    key("server", Ty::List(&Ty::Object(Kind::Channel)), "The addresses to listen on."),
    key("authorization", Ty::Record(&AUTHORIZATION), "Who may call; without it everybody may."),
    key(
        "monitoring",
        Ty::Record(&MONITORING),
        "Where BuildGrid's metrics are published, besides `/metrics`.",
    ),
    key("metering", Ty::Object(Kind::Metering), "Accounting of use by client identity."),
    mapped(
        "thread-pool-size",
        Ty::Whole(1, 1_000_000),
        "Taken for `maximum-concurrent-rpcs` where that is not given, as BuildGrid does, with a warning: there is no thread pool.",
    ),
    default(
        "maximum-concurrent-rpcs",
        Ty::Whole(1, 1_000_000),
        "4096",
        "How many calls work at once, and how many Execute calls begin at once; more wait in a bounded queue, in which connections take turns, and within one those whom a proxy names in `x-forwarded-for`, then get RESOURCE_EXHAUSTED. Requests of the HTTP cache count too. Bots, callers who are not admitted yet or are slowed down by `rates`, clients that wait for an action, an operation or a log's reader, writers of a log while they have nothing to write, and answers that have had nothing to say or were not read for 10 s take no place; of those that are not read as many go on at most. Watches of health and streams of reflection, for which nobody needs to be known, have 1,000 places of their own.",
    ),
    default(
        "maximum-connections",
        Ty::Whole(1, 1_000_000),
        "10000",
        "How many connections of clients are open at once, over all addresses, of which each keeps one free; three quarters of the files that the process may open, where that is less. While all are taken nobody is accepted. Our own.",
    ),
    default(
        "server-reflection",
        Ty::Flag,
        "yes",
        "Whether the server describes its services by gRPC reflection.",
    ),
    default(
        "grpc-compression",
        Ty::OneOf(&["NoCompression", "Deflate", "Gzip"]),
        "NoCompression",
        "How responses to clients that accept it are compressed; `Deflate` is served as `Gzip`.",
    ),
    key("grpc-server-options", Ty::ChannelOptions(Side::Server), "gRPC's own options, by their full names."),
    key("connections", CONNECTIONS, "Connections for use further down."),
    key("storages", STORAGES, "Storages for use further down."),
    key("caches", CACHES, "Action caches for use further down."),
    key("schedulers", SCHEDULERS, "Schedulers for use further down."),
    spelling("data-stores", SCHEDULERS, "schedulers", "The older name of `schedulers`."),
    key("clients", CLIENTS, "Clients for use further down."),
    key("instances", Ty::List(&Ty::Record(&INSTANCE)), "The instances to serve."),
    key("services", Ty::List(&Ty::Object(Kind::ServerService)), "Services that belong to no instance."),
    key("cleanup", Ty::List(&Ty::Record(&CLEANUP)), "What `grid-server cleanup` keeps within bounds."),
    warned("sentry", Ty::Object(Kind::Sentry), NO_SENTRY),
    refused(
        "limiter",
        Ty::Text,
        "BuildGrid removed it; `maximum-concurrent-rpcs` bounds the calls that run at once",
    ),
    key("admin", Ty::Record(&ADMIN), "Where `/metrics`, `/healthz` and `/readyz` are served. Our own."),
    key(
        "health-of",
        Ty::List(&Ty::Record(&HEALTH_OF)),
        "Servers beside this one, whose services' health is told here too. Our own.",
    ),
    key(
        "http-cache",
        Ty::List(&Ty::Object(Kind::Channel)),
        "Addresses of Bazel's HTTP cache (`--remote_cache=http://…`): `/[INSTANCE/]ac/HASH` and `/[INSTANCE/]cas/HASH` of each instance with `!cas` and `!action-cache`, for callers who may do the same by gRPC; a password in the URL is taken as the token. Blobs are those of gRPC, found by hash where they were uploaded by HTTP or a result that was asked for by HTTP names them. Results are those of gRPC, as far as servers with this key recorded them, and the other way round. Our own.",
    ),
    key(
        "grpc-web",
        Ty::Record(&GRPC_WEB),
        "gRPC-web for pages in browsers, at every address; without it there is none. Our own.",
    ),
    key("rates", Ty::Record(&RATES), "How many calls a second callers may make. Our own."),
    key("tracing", Ty::Record(&TRACING), "Where OpenTelemetry traces are sent. Our own."),
    key("pod", Ty::Record(&POD), "What a configuration for a machine needs to run in a pod. Our own."),
    key(
        "state-directory",
        Ty::Path,
        "Where embedded databases live; without it `$XDG_STATE_HOME/buildgrid`. Our own.",
    ),
    key(
        "grid-credentials",
        Ty::Record(&GRID_CREDENTIALS),
        "Tokens that workers and operators show. Our own.",
    ),
];

/// The document itself.
pub(crate) static TOP: Section = Section {
    name: "the document",
    kind: None,
    status: Status::Done,
    doc: "The document itself. It has `server` and one of `instances` and `services`, or `cleanup`.",
    keys: TOP_KEYS,
};

/// One instance.
pub(crate) static INSTANCE: Section = Section {
    name: "an instance",
    kind: None,
    status: Status::Done,
    doc: "One element of `instances`: a set of services under one name or several.",
    keys: &[
        required(
            "name",
            Ty::Names,
            "The name that clients use, or a list of them, each an instance of its own over the same storages; `''` is the unnamed instance.",
        ),
        key("description", Ty::Text, "What the instance is for, for its readers."),
        key("connections", CONNECTIONS, "Connections for use further down."),
        key("storages", STORAGES, "Storages for use further down."),
        key("caches", CACHES, "Action caches for use further down."),
        key("schedulers", SCHEDULERS, "Schedulers for use further down."),
        spelling("data-stores", SCHEDULERS, "schedulers", "The older name of `schedulers`."),
        key("clients", CLIENTS, "Clients for use further down."),
        required("services", Ty::List(&Ty::Object(Kind::Service)), "The services of the instance."),
    ],
};

static CHANNEL: Section = Section {
    name: "!channel",
    kind: Some(Kind::Channel),
    status: Status::Done,
    doc: "An address that the server listens on. Several may be given.",
    keys: &[
        key(
            "address",
            Ty::Text,
            "`HOST:PORT`, `[::]:PORT` for every address of the machine, or `unix:PATH`.",
        ),
        mapped("port", Ty::Whole(1, 65535), "The older form of `address: '[::]:PORT'`."),
        default(
            "insecure-mode",
            Ty::Flag,
            "no",
            "Whether to serve without TLS; elsewhere than on loopback and UNIX sockets it must be said.",
        ),
        key("credentials", Ty::Record(&SERVER_CREDENTIALS), "The key pair for TLS."),
    ],
};

/// What a pod needs.
pub(crate) static POD: Section = Section {
    name: "pod",
    kind: None,
    status: Status::Done,
    doc: "What a configuration that was written for a machine needs to run in a pod; the operator adds it to that of `configFrom`. Our own.",
    keys: &[
        key(
            "port",
            Ty::Whole(1, 65535),
            "Where no channel can be reached at this port from outside, the first one that is plain TCP is opened there, on all addresses, in place of its own.",
        ),
        key(
            "working-directory",
            Ty::Path,
            "Where relative paths of the configuration begin; without it the folder that the server was started in.",
        ),
    ],
};

/// A channel's key pair.
pub(crate) static SERVER_CREDENTIALS: Section = Section {
    name: "credentials (of a channel)",
    kind: None,
    status: Status::Done,
    doc: "The files for TLS. They are read again when they change.",
    keys: &[
        required("tls-server-key", Ty::Path, "The private key, PEM."),
        required("tls-server-cert", Ty::Path, "The certificate chain, PEM."),
        key(
            "tls-client-certs",
            Ty::Path,
            "Certificates of the authorities that client certificates must come from, or of the clients themselves, PEM; with it every client must show one that is valid at the time.",
        ),
    ],
};

/// Tokens between the parts of a grid.
pub(crate) static GRID_CREDENTIALS: Section = Section {
    name: "grid-credentials",
    kind: None,
    status: Status::Done,
    doc: "Bearer tokens between the parts of a grid, each in a file that is read again when it changes. Our own.",
    keys: &[
        key(
            "worker-token",
            Ty::Path,
            "The file with the token that Bots asks workers for; several are let in, one a line.",
        ),
        key(
            "admin-token",
            Ty::Path,
            "The file with the token that Fleet asks for; several are let in, one a line.",
        ),
    ],
};

pub(super) const SECTIONS: &[&Section] =
    &[&TOP, &INSTANCE, &CHANNEL, &SERVER_CREDENTIALS, &GRID_CREDENTIALS, &POD];
