-- Nothing: BuildGrid's index is in PostgreSQL, and so is what is taken over from it.

SELECT 1;
