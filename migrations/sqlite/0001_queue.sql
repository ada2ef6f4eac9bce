-- The scheduler's queue. Times are microseconds since the Unix epoch; identifiers are 16 bytes.

CREATE TABLE requirements (
    id BLOB PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE jobs (
    id BLOB PRIMARY KEY,
    -- Unique among incomplete jobs that may be shared; null for all others.
    merge_key TEXT UNIQUE,
    requirement BLOB NOT NULL,
    stage INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    session BLOB,
    started_at INTEGER,
    -- When the action's own timeout ends; null where it has none or does not run.
    deadline INTEGER,
    completed_at INTEGER,
    watched_until INTEGER NOT NULL,
    label TEXT NOT NULL,
    action_digest TEXT NOT NULL,
    command TEXT NOT NULL,
    -- One line KEY:VALUE for each property, with a line feed before the first and after the last.
    platform TEXT NOT NULL,
    spec TEXT NOT NULL,
    action BLOB NOT NULL,
    state TEXT NOT NULL,
    response BLOB
);
CREATE INDEX jobs_queue ON jobs (requirement, priority, turn, queued_at, id) WHERE stage = 2;
CREATE INDEX jobs_age ON jobs (queued_at) WHERE stage = 2;
CREATE INDEX jobs_leased ON jobs (session) WHERE stage = 3;
CREATE INDEX jobs_started ON jobs (started_at) WHERE stage = 3;
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE stage = 3 AND deadline IS NOT NULL;
CREATE INDEX jobs_completed ON jobs (completed_at) WHERE stage = 4;

CREATE TABLE operations (
    id BLOB PRIMARY KEY,
    job BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    instance TEXT NOT NULL,
    cancelled INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    tool_name TEXT NOT NULL,
    tool_version TEXT NOT NULL,
    action_id TEXT NOT NULL,
    invocation_id TEXT NOT NULL,
    correlated_invocations_id TEXT NOT NULL,
    action_mnemonic TEXT NOT NULL,
    target_id TEXT NOT NULL,
    configuration_id TEXT NOT NULL,
    client_workflow TEXT NOT NULL,
    client_actor TEXT NOT NULL,
    client_subject TEXT NOT NULL
);
CREATE INDEX operations_job ON operations (job);

CREATE TABLE sessions (
    id BLOB PRIMARY KEY,
    pool TEXT NOT NULL,
    bot_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX sessions_bot ON sessions (pool, bot_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Whose turn it is; the row of the empty flow is the clock of its pool and priority.
CREATE TABLE turns (
    pool TEXT NOT NULL,
    priority INTEGER NOT NULL,
    flow TEXT NOT NULL,
    turn INTEGER NOT NULL,
    -- What the newest batch took, so that a row in the way can be moved on by as much.
    taken INTEGER NOT NULL,
    PRIMARY KEY (pool, priority, flow)
) WITHOUT ROWID;
