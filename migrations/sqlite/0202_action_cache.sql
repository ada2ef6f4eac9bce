-- Results of actions. Times are microseconds since the Unix epoch. An action's key is its digest function's number (one
-- byte), its hash, and its size (eight bytes, big endian).

CREATE TABLE action_results (
    -- Tells users of one database apart (`cache-key-salt`).
    salt     TEXT    NOT NULL,
    key      BLOB    NOT NULL,
    -- A build.bazel.remote.execution.v2.ActionResult.
    result   BLOB    NOT NULL,
    accessed INTEGER NOT NULL,
    PRIMARY KEY (salt, key)
) WITHOUT ROWID;
CREATE INDEX action_results_accessed ON action_results (salt, accessed);

-- How many results there are, always exactly.
CREATE TABLE action_result_totals (
    salt    TEXT    NOT NULL PRIMARY KEY,
    entries INTEGER NOT NULL
);
CREATE TRIGGER action_results_added AFTER INSERT ON action_results BEGIN
    INSERT INTO action_result_totals (salt, entries) VALUES (new.salt, 1)
    ON CONFLICT (salt) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER action_results_removed AFTER DELETE ON action_results BEGIN
    UPDATE action_result_totals SET entries = entries - 1 WHERE salt = old.salt;
END;
