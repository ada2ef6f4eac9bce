-- Results of actions. Times are microseconds since the Unix epoch. An action's key is its digest function's number (one
-- byte), its hash, and its size (eight bytes, big endian).

CREATE TABLE action_results (
    -- Tells users of one database apart (`cache-key-salt`).
    salt     TEXT   NOT NULL,
    key      BYTEA  NOT NULL,
    -- A build.bazel.remote.execution.v2.ActionResult.
    result   BYTEA  NOT NULL,
    accessed BIGINT NOT NULL,
    PRIMARY KEY (salt, key)
);
CREATE INDEX action_results_accessed ON action_results (salt, accessed);

-- How many results there are, always exactly, kept in several parts so that writers don't wait for each other.
CREATE TABLE action_result_totals (
    salt    TEXT     NOT NULL,
    part    SMALLINT NOT NULL,
    entries BIGINT   NOT NULL,
    PRIMARY KEY (salt, part)
);
