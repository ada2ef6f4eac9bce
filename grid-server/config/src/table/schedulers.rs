//! Schedulers and what they are made of.

use super::connections::POOL;
use super::misc::PERIOD_TY;
use super::{
    Key, Kind, NO_ASSETS_PUSHED, Section, Status, Ty, default, key, mapped, refused, required, warned,
};

const SQL: Ty = Ty::Object(Kind::SqlConnection);
const TEXTS: Ty = Ty::List(&Ty::Text);
const NO_POLL: &str = "replicas are woken by the database's notifications";
pub(super) const NO_THREADS: &str =
    "every replica assigns jobs to the bots connected to it, in batches; there are no assigner threads";
const ONE_SWEEP: &str = "whatever is overdue or old is looked for every `session-expiry-timer-interval`";

const fn inline(from: Key) -> Key {
    mapped(from.name, from.ty, "The older form of the same key of `sql: !sql-connection`.")
}

const fn pool_of(name: &'static str, status: Status, doc: &'static str) -> Section {
    Section { name, kind: Some(Kind::Scheduler), status, doc, keys: SQL_KEYS }
}

static SQL_SCHEDULER: Section = pool_of(
    "!sql-scheduler",
    Status::Done,
    "The queue of jobs, in PostgreSQL or in an embedded SQLite database.",
);
static MEMORY_SCHEDULER: Section = pool_of(
    "!memory-scheduler",
    Status::Mapped("An `!sql-scheduler` on a temporary SQLite database, which goes with the process."),
    "The older queue in memory.",
);
static SQL_DATA_STORE: Section = pool_of(
    "!sql-data-store",
    Status::Mapped("The older name of `!sql-scheduler`."),
    "The older name of `!sql-scheduler`.",
);
static MEMORY_DATA_STORE: Section = pool_of(
    "!memory-data-store",
    Status::Mapped("The older name of `!memory-scheduler`."),
    "The older name of `!memory-scheduler`.",
);

static SQL_KEYS: &[Key] = &[
    required("storage", Ty::Object(Kind::Storage), "The storage with the actions and the results."),
    key(
        "sql",
        SQL,
        "The database; without it and without `connection-string` an SQLite file of the state directory.",
    ),
    key("sql-ro", SQL, "A read-only copy for listings."),
    key("sql-notifier", SQL, "The connection for notifications, where it must go around a pooler."),
    mapped("connection-string", Ty::Secret, "The older form of `sql: !sql-connection {connection-string}`."),
    inline(POOL[0]),
    inline(POOL[1]),
    inline(POOL[2]),
    inline(POOL[3]),
    inline(POOL[4]),
    POOL[5],
    inline(POOL[6]),
    inline(POOL[8]),
    key("action-cache", Ty::Object(Kind::ActionCache), "Where results are looked up and kept."),
    key("property-set", Ty::Object(Kind::PropertySet), "How jobs and workers are matched."),
    mapped(
        "property-keys",
        TEXTS,
        "The older form of `property-set: !dynamic-property-set {match-property-keys}`.",
    ),
    mapped("wildcard-property-keys", TEXTS, "The older form of the same key of a `!dynamic-property-set`."),
    key(
        "cohort-set",
        Ty::Object(Kind::CohortSet),
        "Groups of bots in which instances have quotas, set by the Quota service: `max` holds from the next lease on, and \
         whoever has less than `min` comes first.",
    ),
    key("pruner-job-max-age", PERIOD_TY, "The age at which finished jobs are deleted; without it they stay."),
    warned("pruner-period", PERIOD_TY, ONE_SWEEP),
    default(
        "pruner-max-delete-window",
        Ty::Whole(1, 10_000_000),
        "10000",
        "How many jobs are deleted at a time.",
    ),
    key("queue-timeout-job-max-age", PERIOD_TY, "The age at which a queued job is given up."),
    warned("queue-timeout-period", PERIOD_TY, ONE_SWEEP),
    warned(
        "queue-timeout-max-window",
        Ty::Whole(1, 10_000_000),
        "jobs are given up in small steps until none is left",
    ),
    key(
        "queue-timeout-configs",
        Ty::List(&Ty::Object(Kind::QueueTimeout)),
        "Ages at which the queued jobs of some instances are given up.",
    ),
    key("action-browser-url", Ty::Text, "The base URL of a browser for actions, for messages to clients."),
    key("instanced-browser-urls", Ty::List(&Ty::Record(&BROWSER_URL)), "Other base URLs for some instances."),
    default("max-execution-timeout", Ty::Seconds(1.0), "7200", "The longest that an action may run."),
    key(
        "metering",
        Ty::Object(Kind::Metering),
        "Where it is counted who uses how much, and who is throttled.",
    ),
    default(
        "metering-throttle-action",
        Ty::OneOf(&["deprioritize", "reject"]),
        "deprioritize",
        "What becomes of an action below priority 1 whose client used more than they may: it gets priority 1, or is refused.",
    ),
    default(
        "bot-session-keepalive-timeout",
        Ty::Seconds(1.0),
        "600",
        "How long a bot may stay silent before its jobs go to others.",
    ),
    key(
        "logstream",
        Ty::Record(&super::LOG_STREAM),
        "Another server, at which the log streams of leases are made; without it they are made at the `!logstream` service of this one. Bots write there, and clients read there.",
    ),
    refused("asset-client", Ty::Object(Kind::AssetClient), NO_ASSETS_PUSHED),
    refused("queued-action-retention-hours", Ty::Number(0.0, 1e6), NO_ASSETS_PUSHED),
    refused("completed-action-retention-hours", Ty::Number(0.0, 1e6), NO_ASSETS_PUSHED),
    refused("action-result-retention-hours", Ty::Number(0.0, 1e6), NO_ASSETS_PUSHED),
    default(
        "max-job-attempts",
        Ty::Whole(1, 1000),
        "5",
        "How often a job is tried when its workers are lost.",
    ),
    mapped(
        "assigners",
        Ty::List(&Ty::Object(Kind::Assigner)),
        "There are no assigner threads; what assigners say of the oldest jobs' share and of preemption holds for all.",
    ),
    key(
        "priority-assignment-percentage",
        Ty::Whole(0, 100),
        "Of a hundred leases, how many go by priority; the others go to the oldest jobs. Without `assigners` that say it.",
    ),
    warned("job-assignment-interval", Ty::Seconds(0.0), NO_THREADS),
    warned("poll-interval", Ty::Seconds(0.0), NO_POLL),
    warned("bot-poll-interval", Ty::Seconds(0.0), NO_POLL),
    key("max-queue-size", Ty::Whole(1, 1_000_000_000), "How many jobs of one property label may be queued."),
    key("instanced-queue-size", Ty::List(&Ty::Record(&QUEUE_SIZE)), "Other limits for some instances."),
    warned("execution-timer-interval", Ty::Seconds(0.0), ONE_SWEEP),
    default(
        "session-expiry-timer-interval",
        Ty::Seconds(0.0),
        "10",
        "How often silent bots, overdue and old jobs are looked for.",
    ),
    key("instance-pools", Ty::List(&Ty::List(&Ty::Text)), "Instances that share their bots and queue."),
    default(
        "history-retention",
        PERIOD_TY,
        "{days: 7}",
        "How long it is kept what became of leases: of it size classes are made. Our own.",
    ),
    default(
        "provenance-retention",
        PERIOD_TY,
        "{days: 30}",
        "How long it is kept which worker executed which result, for `grid-server purge`: as long as the action cache keeps results. 0 for not at all. Our own.",
    ),
    default(
        "fairness",
        Ty::OneOf(&["age", "turns"]),
        "age",
        "Within a priority, whether the oldest job is first or invocations take turns. Our own.",
    ),
    default(
        "refuse-unplaceable-after",
        Ty::Seconds(0.0),
        "60",
        "How long a job waits that none of the pools declared to Fleet can ever run; 0 for ever. Our own.",
    ),
    default(
        "bot-locality-hint-limit",
        Ty::Whole(0, 1000),
        "10",
        "How many locality hints of a bot are remembered.",
    ),
    warned(
        "proactive-fetch-to-capacity",
        Ty::Flag,
        "a bot that reports a result always gets as many jobs as it has room for",
    ),
    warned(
        "proactive-fetch-full-queue",
        Ty::Flag,
        "a bot that reports a result is always offered the whole queue",
    ),
    default(
        "eviction-cooldown-seconds",
        Ty::Whole(0, 86_400),
        "600",
        "How long an instance may hold so many leases less as were taken from it for others, in seconds.",
    ),
];

/// A browser URL for some instances.
pub(crate) static BROWSER_URL: Section = Section {
    name: "instanced-browser-urls[]",
    kind: None,
    status: Status::Done,
    doc: "A browser URL for some instances.",
    keys: &[
        required("url", Ty::Text, "The base URL."),
        required("instance-names", TEXTS, "The instances; each in one element only."),
    ],
};

/// A queue limit for some instances.
pub(crate) static QUEUE_SIZE: Section = Section {
    name: "instanced-queue-size[]",
    kind: None,
    status: Status::Done,
    doc: "A queue limit for some instances.",
    keys: &[
        required(
            "max-size",
            Ty::Whole(1, 1_000_000_000),
            "How many jobs of one property label may be queued.",
        ),
        required("instance-names", TEXTS, "The instances; each in one element only."),
    ],
};

static DYNAMIC_SET: Section = Section {
    name: "!dynamic-property-set",
    kind: Some(Kind::PropertySet),
    status: Status::Done,
    doc: "Jobs may ask for any values of known keys, and go to bots that have them.",
    keys: &[
        default(
            "unique-property-keys",
            TEXTS,
            "[]",
            "Keys that a job may give only once; `OSFamily` always is one.",
        ),
        default(
            "match-property-keys",
            TEXTS,
            "[]",
            "Keys that a bot must match; `OSFamily` and `ISA` always are.",
        ),
        default(
            "wildcard-property-keys",
            TEXTS,
            "[]",
            "Keys that a job may give and no bot needs to match; `*` for all.",
        ),
        default(
            "preferred-property-keys",
            TEXTS,
            "[]",
            "Keys that are matched where a bot is free that does.",
        ),
        default("label-key", Ty::Text, "OSFamily", "The key whose value labels jobs in metrics and limits."),
    ],
};

static STATIC_SET: Section = Section {
    name: "!static-property-set",
    kind: Some(Kind::PropertySet),
    status: Status::Done,
    doc: "Jobs may ask for what a list of labels allows.",
    keys: &[
        required(
            "property-labels",
            Ty::List(&Ty::Record(&PROPERTY_LABEL)),
            "The labels in order; the first that covers a job is its own.",
        ),
        default("wildcard-property-keys", TEXTS, "[]", "Keys that a job may give and no bot needs to match."),
        default(
            "exclusive-property-keys",
            TEXTS,
            "[]",
            "A bot that has such a key only takes jobs that ask for it.",
        ),
        default(
            "preferred-property-keys",
            TEXTS,
            "[]",
            "Keys that are matched where a bot is free that does.",
        ),
    ],
};

/// A label of a static property set.
pub(crate) static PROPERTY_LABEL: Section = Section {
    name: "property-labels[]",
    kind: None,
    status: Status::Done,
    doc: "One label of a `!static-property-set`.",
    keys: &[
        required("label", Ty::Text, "The label."),
        required("properties", Ty::List(&Ty::List(&Ty::Text)), "Its properties, as `[key, value]` pairs."),
    ],
};

static INSTANCED_SET: Section = Section {
    name: "!instanced-property-set",
    kind: Some(Kind::PropertySet),
    status: Status::Done,
    doc: "A property set for each instance.",
    keys: &[required("sets", Ty::List(&Ty::Record(&INSTANCE_SET)), "The sets with their instances.")],
};

/// The property set of some instances.
pub(crate) static INSTANCE_SET: Section = Section {
    name: "sets[]",
    kind: None,
    status: Status::Done,
    doc: "One set of an `!instanced-property-set`.",
    keys: &[
        required("instances", TEXTS, "The instances that it is for."),
        required("set", Ty::Object(Kind::PropertySet), "The set."),
    ],
};

static QUEUE_TIMEOUT: Section = Section {
    name: "!queue-timeout-thread",
    kind: Some(Kind::QueueTimeout),
    status: Status::Done,
    doc: "When queued jobs of some instances are given up. Where more than one is for an instance, the shortest age counts. A job of pooled instances is of the one that first asked for it.",
    keys: &[
        default("name", Ty::Text, "", "What the message to the job's client calls it."),
        required("job-max-age", PERIOD_TY, "The age."),
        warned("handling-period", PERIOD_TY, ONE_SWEEP),
        warned(
            "max-handling-window",
            Ty::Whole(1, 10_000_000),
            "jobs are given up in small steps until none is left",
        ),
        default("instance-names", TEXTS, "[]", "The instances; without any, all."),
    ],
};

static METERING: Section = Section {
    name: "!metering",
    kind: Some(Kind::Metering),
    status: Status::Done,
    doc: "Accounting of use by client identity (instance, workflow, actor, subject), in Redis and in BuildGrid's form: calls of Execute, and what each action used as its worker measured it, counted when its client hears of its end. A Redis that is away throttles nobody.",
    keys: &[
        required("redis", Ty::Object(Kind::RedisConnection), "The connection."),
        key(
            "throttling-config-path",
            Ty::Path,
            "A JSON file with thresholds; without one nobody is throttled. A level has `default` ({kind: {resource: number}}) and `next`, which names levels by instance, workflow, actor or subject.",
        ),
        default(
            "throttling-data-expiration-sec",
            Ty::Whole(1, 1_000_000_000),
            "600",
            "How long use counts, in seconds.",
        ),
        default(
            "operation-deduplication-period-sec",
            Ty::Whole(1, 1_000_000_000),
            "30",
            "How long an operation counts once, in seconds.",
        ),
    ],
};

static METERING_CLIENT: Section = Section {
    name: "!metering-service-client",
    kind: Some(Kind::Metering),
    status: Status::Refused("BuildGrid removed it; `rates` bounds the calls of each subject"),
    doc: "BuildGrid's former metering.",
    keys: &[],
};

pub(super) const SECTIONS: &[&Section] = &[
    &SQL_SCHEDULER,
    &MEMORY_SCHEDULER,
    &SQL_DATA_STORE,
    &MEMORY_DATA_STORE,
    &BROWSER_URL,
    &QUEUE_SIZE,
    &DYNAMIC_SET,
    &STATIC_SET,
    &PROPERTY_LABEL,
    &INSTANCED_SET,
    &INSTANCE_SET,
    &QUEUE_TIMEOUT,
    &METERING,
    &METERING_CLIENT,
];
