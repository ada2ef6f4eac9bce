-- What is whole in the index goes with its rows by their foreign key, and rows are written anew where they are: where PostgreSQL
-- cleans an index more quickly from this migration on, SQLite has nothing to change.

SELECT 1;
