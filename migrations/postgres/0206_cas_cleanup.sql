-- Cleaning an index is quick: a claim writes each row anew on its own page, where there is room for that, and leaves the table's
-- indexes alone; and what is whole in the index goes with its rows in one statement, not row by row.

ALTER TABLE cas_blobs SET (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.05);

ALTER TABLE cas_inline DROP CONSTRAINT cas_inline_store_key_fkey;

CREATE FUNCTION cas_inline_follows() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM cas_inline i USING gone WHERE i.store = gone.store AND i.key = gone.key;
    RETURN NULL;
END $$;

CREATE TRIGGER cas_inline_follows AFTER DELETE ON cas_blobs
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION cas_inline_follows();
