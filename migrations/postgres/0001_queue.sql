-- The scheduler's queue. Times are microseconds since the Unix epoch; everything is in the schema grid, which the migrator makes.

CREATE TABLE requirements (
    id uuid PRIMARY KEY,
    body text NOT NULL
);

CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    -- Unique among incomplete jobs that may be shared; null for all others.
    merge_key text UNIQUE,
    requirement uuid NOT NULL,
    stage smallint NOT NULL,
    priority integer NOT NULL,
    turn bigint NOT NULL,
    queued_at bigint NOT NULL,
    session uuid,
    started_at bigint,
    -- When the action's own timeout ends; null where it has none or does not run.
    deadline bigint,
    completed_at bigint,
    watched_until bigint NOT NULL,
    label text NOT NULL,
    action_digest text NOT NULL,
    command text NOT NULL,
    -- One line KEY:VALUE for each property, with a line feed before the first and after the last.
    platform text NOT NULL,
    spec text NOT NULL,
    action bytea NOT NULL,
    state text NOT NULL,
    response bytea
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX jobs_queue ON jobs (requirement, priority, turn, queued_at, id) WHERE stage = 2;
CREATE INDEX jobs_age ON jobs (queued_at) WHERE stage = 2;
CREATE INDEX jobs_leased ON jobs (session) WHERE stage = 3;
CREATE INDEX jobs_started ON jobs (started_at) WHERE stage = 3;
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE stage = 3 AND deadline IS NOT NULL;
CREATE INDEX jobs_completed ON jobs (completed_at) WHERE stage = 4;

CREATE TABLE operations (
    id uuid PRIMARY KEY,
    job uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    instance text NOT NULL,
    cancelled boolean NOT NULL,
    created_at bigint NOT NULL,
    tool_name text NOT NULL,
    tool_version text NOT NULL,
    action_id text NOT NULL,
    invocation_id text NOT NULL,
    correlated_invocations_id text NOT NULL,
    action_mnemonic text NOT NULL,
    target_id text NOT NULL,
    configuration_id text NOT NULL,
    client_workflow text NOT NULL,
    client_actor text NOT NULL,
    client_subject text NOT NULL
);
CREATE INDEX operations_job ON operations (job);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    pool text NOT NULL,
    bot_id text NOT NULL,
    expires_at bigint NOT NULL,
    body text NOT NULL
);
CREATE INDEX sessions_bot ON sessions (pool, bot_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Whose turn it is; the row of the empty flow is the clock of its pool and priority.
CREATE TABLE turns (
    pool text NOT NULL,
    priority integer NOT NULL,
    flow text NOT NULL,
    turn bigint NOT NULL,
    -- What the newest batch took, so that a row in the way can be moved on by as much.
    taken bigint NOT NULL,
    PRIMARY KEY (pool, priority, flow)
);
