-- Why jobs waited, by what they ask for. Kept as long as the leases that ended.

CREATE TABLE waits (
    -- Nil where all jobs waited.
    requirement uuid NOT NULL,
    since bigint NOT NULL,
    until bigint NOT NULL,
    -- The place among the reasons of the Fleet service.
    reason smallint NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (requirement, since, reason)
);
CREATE INDEX waits_until ON waits (until);
