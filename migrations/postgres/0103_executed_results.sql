-- Which worker executed the result of an action that a cache may hold, and for whom. Times are microseconds since the
-- Unix epoch.

CREATE TABLE executed_results (
    instance text NOT NULL,
    -- FUNCTION/DIGEST.
    action text NOT NULL,
    worker text NOT NULL,
    -- Empty where nobody had to say who they are.
    subject text NOT NULL,
    executed_at bigint NOT NULL,
    PRIMARY KEY (instance, action, worker)
);
CREATE INDEX executed_results_worker ON executed_results (worker, executed_at);
CREATE INDEX executed_results_age ON executed_results (executed_at);
