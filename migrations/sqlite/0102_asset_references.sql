-- What an asset needs beside itself, and when it was last asked for. Times are microseconds since the Unix epoch.

-- KIND FUNCTION/DIGEST, one a line; KIND as in column kind.
ALTER TABLE assets ADD COLUMN needs text NOT NULL DEFAULT '';
ALTER TABLE assets ADD COLUMN used_at integer NOT NULL DEFAULT 0;
UPDATE assets SET used_at = pushed_at;
DROP INDEX assets_age;
CREATE INDEX assets_use ON assets (used_at);
