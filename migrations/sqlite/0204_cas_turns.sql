-- Whose turn it is to clean a storage, and until when (microseconds since the Unix epoch): two cleaners at once would each
-- delete what is too much.

CREATE TABLE cas_turns (
    store  TEXT    NOT NULL PRIMARY KEY,
    holder BLOB    NOT NULL,
    until  INTEGER NOT NULL
);
