-- Leases that have ended. They outlive their jobs, for as long as the configuration says.

CREATE TABLE runs (
    job BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    instance TEXT NOT NULL,
    mnemonic TEXT NOT NULL,
    tool TEXT NOT NULL,
    bot TEXT NOT NULL,
    pool TEXT NOT NULL,
    priority INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    -- 0: finished; 1: stopped; 2: worker lost; 3: internal; 4: unavailable; 5: given back.
    ending INTEGER NOT NULL,
    -- In microseconds and bytes; 0 where the worker measured nothing.
    cpu INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    PRIMARY KEY (job, attempt)
) WITHOUT ROWID;
CREATE INDEX runs_ended ON runs (ended_at);
