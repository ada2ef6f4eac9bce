-- Unfinished uploads, log streams, build events, assets. Times are microseconds since the Unix epoch.

CREATE TABLE upload_parts (
    upload text NOT NULL,
    start_at integer NOT NULL,
    length integer NOT NULL,
    content blob NOT NULL,
    kept_at integer NOT NULL,
    PRIMARY KEY (upload, start_at)
);
CREATE INDEX upload_parts_age ON upload_parts (kept_at);

CREATE TABLE log_streams (
    name text PRIMARY KEY,
    write_token text NOT NULL,
    committed integer NOT NULL,
    finished boolean NOT NULL,
    readers integer NOT NULL,
    used_at integer NOT NULL
);
CREATE INDEX log_streams_age ON log_streams (used_at);

CREATE TABLE log_pieces (
    name text NOT NULL REFERENCES log_streams (name) ON DELETE CASCADE,
    start_at integer NOT NULL,
    content blob NOT NULL,
    PRIMARY KEY (name, start_at)
);

CREATE TABLE event_streams (
    name text PRIMARY KEY,
    stream_id blob NOT NULL,
    used_at integer NOT NULL
);
CREATE INDEX event_streams_age ON event_streams (used_at);

CREATE TABLE build_events (
    name text NOT NULL REFERENCES event_streams (name) ON DELETE CASCADE,
    sequence_number integer NOT NULL,
    event blob NOT NULL,
    PRIMARY KEY (name, sequence_number)
);

CREATE TABLE assets (
    instance text NOT NULL,
    kind integer NOT NULL,
    uri text NOT NULL,
    -- "NAME"="VALUE", quoted, one a line, in order.
    qualifiers text NOT NULL,
    digest text NOT NULL,
    pushed_at integer NOT NULL,
    expires_at integer,
    PRIMARY KEY (instance, kind, uri, qualifiers)
);
CREATE INDEX assets_age ON assets (pushed_at);
CREATE INDEX assets_expiry ON assets (expires_at) WHERE expires_at IS NOT NULL;
