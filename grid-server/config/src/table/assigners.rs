//! Assigners and cohorts: what is left of BuildGrid's assigner threads where there are none.

use super::schedulers::NO_THREADS;
use super::{Kind, Section, Status, Ty, default, key, required, warned};

const TEXTS: Ty = Ty::List(&Ty::Text);
const NO_BACKOFF: &str = "a job that no bot can take costs nothing until a bot comes";

static COHORT_SET: Section = Section {
    name: "!cohort-set",
    kind: Some(Kind::CohortSet),
    status: Status::Done,
    doc: "Groups of bots in which instances have quotas.",
    keys: &[required("cohorts", Ty::List(&Ty::Record(&COHORT)), "The groups.")],
};

/// A group of bots.
pub(crate) static COHORT: Section = Section {
    name: "cohorts[]",
    kind: None,
    status: Status::Done,
    doc: "A group of bots.",
    keys: &[
        required("name", Ty::Text, "Its name, by which the Quota service knows it."),
        required(
            "property-labels",
            TEXTS,
            "Property labels; a bot is in the group if all of its own are among them. Each in one group only.",
        ),
    ],
};

static PRIORITY_AGE: Section = Section {
    name: "!priority-age-assigner",
    kind: Some(Kind::Assigner),
    status: Status::Mapped("Its share of the oldest jobs, by `count` where there are several assigners."),
    doc: "BuildGrid's assigner by priority and age.",
    keys: &[
        warned("name", Ty::Text, NO_THREADS),
        default("count", Ty::Whole(0, 10_000), "1", "How much it weighs beside other assigners."),
        warned("interval", Ty::Seconds(0.0), NO_THREADS),
        default(
            "priority-assignment-percentage",
            Ty::Whole(0, 100),
            "100",
            "Of a hundred leases, how many go by priority; the others go to the oldest jobs.",
        ),
        warned("failure-backoff", Ty::Seconds(0.0), NO_BACKOFF),
        warned("jitter-factor", Ty::Number(0.0, 1e6), NO_THREADS),
        warned("busy-sleep-factor", Ty::Number(0.0, 1e6), NO_THREADS),
        warned("instance-names", TEXTS, "jobs of every instance are assigned"),
        warned("bot-assignment-strategy", Ty::Object(Kind::Strategy), "bots take jobs; they are not chosen"),
        warned("preemption-delay", Ty::Seconds(0.0), "a `!cohort-assigner` preempts"),
    ],
};

static COHORT_ASSIGNER: Section = Section {
    name: "!cohort-assigner",
    kind: Some(Kind::Assigner),
    status: Status::Mapped(
        "Leases are taken from instances that have more than their `min`, for those that have less.",
    ),
    doc: "BuildGrid's assigner by cohorts.",
    keys: &[
        warned("name", Ty::Text, NO_THREADS),
        warned("count", Ty::Whole(0, 10_000), NO_THREADS),
        warned("interval", Ty::Seconds(0.0), NO_THREADS),
        key("cohort-set", TEXTS, "The cohorts in which it preempts; all without it."),
        warned("failure-backoff", Ty::Seconds(0.0), NO_BACKOFF),
        warned("jitter-factor", Ty::Number(0.0, 1e6), NO_THREADS),
        warned("busy-sleep-factor", Ty::Number(0.0, 1e6), NO_THREADS),
        warned("instance-names", TEXTS, "jobs of every instance are assigned"),
        warned("bot-assignment-strategy", Ty::Object(Kind::Strategy), "bots take jobs; they are not chosen"),
        default(
            "preemption-delay",
            Ty::Seconds(0.0),
            "20",
            "How long a job waits before a lease is taken for it; of several assigners the shortest counts.",
        ),
    ],
};

static BY_CAPACITY: Section = Section {
    name: "!assign-by-capacity",
    kind: Some(Kind::Strategy),
    status: Status::Warned("bots take jobs; they are not chosen"),
    doc: "BuildGrid's choice of bots by free capacity.",
    keys: &[warned("sampling", Ty::Object(Kind::Sampling), "bots take jobs; they are not sampled")],
};

static BY_LOCALITY: Section = Section {
    name: "!assign-by-locality",
    kind: Some(Kind::Strategy),
    status: Status::Warned("bots take jobs; they are not chosen"),
    doc: "BuildGrid's former choice of bots by locality.",
    keys: &[],
};

static SAMPLING: Section = Section {
    name: "!sampling-config",
    kind: Some(Kind::Sampling),
    status: Status::Warned("bots take jobs; they are not sampled"),
    doc: "How BuildGrid samples bots.",
    keys: &[
        warned("sample-size", Ty::Whole(1, 1_000_000), "bots are not sampled"),
        warned("max-attempts", Ty::Whole(1, 1_000_000), "bots are not sampled"),
        warned("weights", Ty::Object(Kind::Weights), "bots are not sampled"),
    ],
};

static WEIGHTS: Section = Section {
    name: "!sampling-weights",
    kind: Some(Kind::Weights),
    status: Status::Warned("bots take jobs; they are not sampled"),
    doc: "How BuildGrid weighs sampled bots.",
    keys: &[
        warned("priority", Ty::Number(-1e9, 1e9), "bots are not sampled"),
        warned("locality", Ty::Number(-1e9, 1e9), "bots are not sampled"),
        warned("capacity", Ty::Number(-1e9, 1e9), "bots are not sampled"),
    ],
};

pub(super) const SECTIONS: &[&Section] =
    &[&COHORT_SET, &COHORT, &PRIORITY_AGE, &COHORT_ASSIGNER, &BY_CAPACITY, &BY_LOCALITY, &SAMPLING, &WEIGHTS];
