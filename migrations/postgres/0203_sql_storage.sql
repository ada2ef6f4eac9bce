-- Blobs in the database itself. A blob's key is its digest function's number (one byte) and its hash. Its content is in
-- parts, written before the blob is named: what a writer that died left is parts that no blob names.

CREATE TABLE cas_values (
    key     BYTEA  NOT NULL PRIMARY KEY,
    size    BIGINT NOT NULL,
    content UUID   NOT NULL
);
CREATE INDEX cas_values_content ON cas_values (content);

CREATE TABLE cas_parts (
    content UUID    NOT NULL,
    part    INTEGER NOT NULL,
    data    BYTEA   NOT NULL,
    -- Microseconds since the Unix epoch.
    stored  BIGINT  NOT NULL,
    PRIMARY KEY (content, part)
);
CREATE INDEX cas_parts_stored ON cas_parts (stored);
