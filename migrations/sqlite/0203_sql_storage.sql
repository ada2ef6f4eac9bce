-- Blobs in the database itself. A blob's key is its digest function's number (one byte) and its hash. Its content is in
-- parts, written before the blob is named: what a writer that died left is parts that no blob names.

CREATE TABLE cas_values (
    key     BLOB    NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL,
    content BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX cas_values_content ON cas_values (content);

CREATE TABLE cas_parts (
    content BLOB    NOT NULL,
    part    INTEGER NOT NULL,
    data    BLOB    NOT NULL,
    -- Microseconds since the Unix epoch.
    stored  INTEGER NOT NULL,
    PRIMARY KEY (content, part)
);
CREATE INDEX cas_parts_stored ON cas_parts (stored);
