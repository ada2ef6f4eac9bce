-- What operators say of their workers: declared pools, drains, and which pool ran a job.

ALTER TABLE jobs ADD COLUMN worker_pool text NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN worker_pool text NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN node text NOT NULL DEFAULT '';

-- When a requirement was last asked for, to the hour.
ALTER TABLE requirements ADD COLUMN used_at bigint NOT NULL DEFAULT 0;

CREATE TABLE pool_owners (
    owner text PRIMARY KEY,
    revision bigint NOT NULL,
    declared_at bigint NOT NULL,
    -- The owner's pools as one document.
    pools text NOT NULL
);

-- When a job last came to a pool that had no free slot.
CREATE TABLE wakeups (
    pool text PRIMARY KEY,
    generation bigint NOT NULL
);

CREATE TABLE drains (
    -- 1: a bot; 2: a pool; 3: a node.
    kind smallint NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    requested_at bigint NOT NULL,
    deadline bigint NOT NULL,
    returned bigint NOT NULL,
    PRIMARY KEY (kind, target)
);
