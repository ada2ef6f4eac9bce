-- The index of content-addressed storages: which blobs there are, when each was last used, and small ones whole.
-- Times are microseconds since the Unix epoch. A blob's key is its digest function's number (one byte) and its hash.

CREATE TABLE cas_blobs (
    store    TEXT   NOT NULL,
    key      BYTEA  NOT NULL,
    size     BIGINT NOT NULL,
    accessed BIGINT NOT NULL,
    -- Until when somebody is deleting the blob; a row that has this is no promise that the blob is there.
    deleting BIGINT,
    PRIMARY KEY (store, key)
);
CREATE INDEX cas_blobs_accessed ON cas_blobs (store, accessed);

-- Apart from the rows above, so that noting a use does not write content again.
CREATE TABLE cas_inline (
    store TEXT  NOT NULL,
    key   BYTEA NOT NULL,
    data  BYTEA NOT NULL,
    PRIMARY KEY (store, key),
    FOREIGN KEY (store, key) REFERENCES cas_blobs (store, key) ON DELETE CASCADE
);

-- What all rows of a store add up to, always exactly, kept in several parts so that writers don't wait for each other.
CREATE TABLE cas_totals (
    store TEXT     NOT NULL,
    part  SMALLINT NOT NULL,
    bytes BIGINT   NOT NULL,
    blobs BIGINT   NOT NULL,
    PRIMARY KEY (store, part)
);
