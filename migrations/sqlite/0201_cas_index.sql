-- The index of content-addressed storages: which blobs there are, when each was last used, and small ones whole.
-- Times are microseconds since the Unix epoch. A blob's key is its digest function's number (one byte) and its hash.

CREATE TABLE cas_blobs (
    store    TEXT    NOT NULL,
    key      BLOB    NOT NULL,
    size     INTEGER NOT NULL,
    accessed INTEGER NOT NULL,
    -- Until when somebody is deleting the blob; a row that has this is no promise that the blob is there.
    deleting INTEGER,
    PRIMARY KEY (store, key)
) WITHOUT ROWID;
CREATE INDEX cas_blobs_accessed ON cas_blobs (store, accessed);

-- Apart from the rows above, so that noting a use does not write content again.
CREATE TABLE cas_inline (
    store TEXT NOT NULL,
    key   BLOB NOT NULL,
    data  BLOB NOT NULL,
    PRIMARY KEY (store, key),
    FOREIGN KEY (store, key) REFERENCES cas_blobs (store, key) ON DELETE CASCADE
);

-- What all rows of a store add up to, always exactly.
CREATE TABLE cas_totals (
    store TEXT    NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    blobs INTEGER NOT NULL
);
