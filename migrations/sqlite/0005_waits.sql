-- Why jobs waited, by what they ask for. Kept as long as the leases that ended.

CREATE TABLE waits (
    -- Nil where all jobs waited.
    requirement BLOB NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    -- The place among the reasons of the Fleet service.
    reason INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (requirement, since, reason)
) WITHOUT ROWID;
CREATE INDEX waits_until ON waits (until);
