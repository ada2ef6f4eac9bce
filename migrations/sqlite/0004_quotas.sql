-- Shares of instances in cohorts of bots.

ALTER TABLE jobs ADD COLUMN instance text NOT NULL DEFAULT '';
-- The cohort of the bot that runs it; empty where it does not run, and where the bot is in none.
ALTER TABLE jobs ADD COLUMN cohort text NOT NULL DEFAULT '';
CREATE INDEX jobs_cohort ON jobs (cohort, instance) WHERE stage = 3 AND cohort <> '';

CREATE TABLE quotas (
    cohort text NOT NULL,
    instance text NOT NULL,
    least integer NOT NULL,
    most integer NOT NULL,
    PRIMARY KEY (cohort, instance)
);

-- Leases that were taken from an instance for others, and when.
CREATE TABLE evictions (
    cohort text NOT NULL,
    instance text NOT NULL,
    evicted_at integer NOT NULL
);
CREATE INDEX evictions_at ON evictions (cohort, instance, evicted_at);

UPDATE jobs SET instance = json_extract(spec, '$.instance') WHERE stage IN (2, 3);
