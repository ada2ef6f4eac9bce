//! Connections to databases.

use super::{Key, Kind, NO_ASSETS_PUSHED, Section, Status, Ty, default, key, refused, required, warned};

/// The keys of a connection to a database, which `!sql-scheduler` takes inline too.
pub(super) const POOL: [Key; 9] = [
    default("connection-timeout", Ty::Seconds(0.0), "5", "How long a connection may take to be made."),
    default(
        "lock-timeout",
        Ty::Seconds(0.0),
        "5",
        "How long a statement of PostgreSQL waits for a lock before it is made again; 0 for ever.",
    ),
    default(
        "pool-size",
        Ty::Whole(0, 10_000),
        "5",
        "How many connections may be open, together with `max-overflow`.",
    ),
    default(
        "max-overflow",
        Ty::Whole(0, 10_000),
        "10",
        "How many more may be open; all that are idle for ten minutes are closed.",
    ),
    default("pool-timeout", Ty::Seconds(0.0), "30", "How long a call waits for a free connection."),
    warned("pool-pre-ping", Ty::Flag, "every connection is tried before each use"),
    key(
        "pool-recycle",
        Ty::Seconds(0.0),
        "The age at which a connection is replaced; without it, or with -1, none is.",
    ),
    refused("connect-args", Ty::TextMap, "put the driver's options into `connection-string`, after a `?`"),
    default(
        "automigrate",
        Ty::Flag,
        "no",
        "Whether the server migrates the database at start; else it refuses an old schema and names the command. SQLite always migrates.",
    ),
];

static SQL: Section = Section {
    name: "!sql-connection",
    kind: Some(Kind::SqlConnection),
    status: Status::Done,
    doc: "A pool of connections to PostgreSQL, or an embedded SQLite database.",
    keys: &[
        required(
            "connection-string",
            Ty::Secret,
            "`postgresql://USER:PASSWORD@HOST/DATABASE`, or `sqlite:///PATH` for an embedded database.",
        ),
        POOL[0],
        POOL[1],
        POOL[2],
        POOL[3],
        POOL[4],
        POOL[5],
        POOL[6],
        POOL[7],
        POOL[8],
        default("name", Ty::Text, "sql-provider", "The connection's name in metrics."),
    ],
};

static REDIS: Section = Section {
    name: "!redis-connection",
    kind: Some(Kind::RedisConnection),
    status: Status::Done,
    doc: "A Redis server, or the sentinels that know the current one.",
    keys: &[
        required("host", Ty::Text, "The server's host."),
        required("port", Ty::Whole(1, 65535), "The server's port."),
        refused(
            "dns-srv-record",
            Ty::Text,
            "give `host` and `port`: all addresses of the name are tried at each new connection",
        ),
        key("password", Ty::Secret, "The password."),
        default("db", Ty::Whole(0, 65535), "0", "The number of the database."),
        key(
            "sentinel-master-name",
            Ty::Text,
            "The name under which sentinels know the primary; the host is then a sentinel.",
        ),
        default(
            "retries",
            Ty::Whole(0, 100),
            "3",
            "How often a call is tried again when the connection broke.",
        ),
        key("protocol", Ty::Whole(2, 3), "The version of the RESP protocol."),
    ],
};

static SENTRY: Section = Section {
    name: "!sentry",
    kind: Some(Kind::Sentry),
    status: Status::Warned("errors go to the log, where a collector finds them"),
    doc: "BuildGrid's error collector.",
    keys: &[
        warned("dsn", Ty::Secret, "no errors are sent"),
        warned("sample-rate", Ty::Number(0.0, 1.0), "no errors are sent"),
        warned("proxy", Ty::Text, "no errors are sent"),
    ],
};

static ASSET_CLIENT: Section = Section {
    name: "!asset-client",
    kind: Some(Kind::AssetClient),
    status: Status::Refused(NO_ASSETS_PUSHED),
    doc: "A Remote Asset service to which the scheduler pushes what it wants kept.",
    keys: &[
        required("url", Ty::Text, "The service's URL."),
        key("credentials", Ty::Record(&super::misc::CREDENTIALS), "What the client shows."),
        key("channel-options", Ty::ChannelOptions(super::Side::Client), "gRPC's options for the connection."),
        default("request-timeout", Ty::Seconds(0.0), "5", "How long a call may take."),
        default("retries", Ty::Whole(0, 100), "3", "How often a call is tried again."),
    ],
};

/// The server that has the log streams of a scheduler's leases.
pub(crate) static LOG_STREAM: Section = Section {
    name: "logstream (of a scheduler)",
    kind: None,
    status: Status::Done,
    doc: "The Log Stream service of another server. The instances' names are its parents; while it is away, leases have no streams.",
    keys: &[
        required("url", Ty::Text, "The service's URL."),
        key("credentials", Ty::Record(&super::misc::CREDENTIALS), "What is shown to it."),
        key("channel-options", Ty::ChannelOptions(super::Side::Client), "gRPC's options for the connection."),
        key("request-timeout", Ty::Seconds(0.0), "How long a call may take."),
    ],
};

pub(super) const SECTIONS: &[&Section] = &[&SQL, &REDIS, &LOG_STREAM, &ASSET_CLIENT, &SENTRY];
