-- Indexes whose storages BuildGrid no longer uses, as somebody said. Until then, what an index of BuildGrid in the same
-- database names is BuildGrid's as well. Times are microseconds since the Unix epoch.

CREATE TABLE cas_taken_over (
    store TEXT   NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);
