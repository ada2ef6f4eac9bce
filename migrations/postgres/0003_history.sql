-- Leases that have ended. They outlive their jobs, for as long as the configuration says.

CREATE TABLE runs (
    job uuid NOT NULL,
    attempt bigint NOT NULL,
    instance text NOT NULL,
    mnemonic text NOT NULL,
    tool text NOT NULL,
    bot text NOT NULL,
    pool text NOT NULL,
    priority integer NOT NULL,
    queued_at bigint NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint NOT NULL,
    -- 0: finished; 1: stopped; 2: worker lost; 3: internal; 4: unavailable; 5: given back.
    ending smallint NOT NULL,
    -- In microseconds and bytes; 0 where the worker measured nothing.
    cpu bigint NOT NULL,
    memory bigint NOT NULL,
    PRIMARY KEY (job, attempt)
);
CREATE INDEX runs_ended ON runs (ended_at);
