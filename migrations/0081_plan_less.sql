-- +goose Up
-- What runs all the time is planned once: the sequencer looks four times a second
-- for events, mostly in vain, and planning over the partitions took most of it.

SELECT audit.maintenance('0081', 'audit.sequence is planned once, and ends at once where nothing waits; decisions are compressed by LZ4');

SET LOCAL ROLE mailward_owner;

-- Numbers up to p_max events that wait: see 0042.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.sequence(p_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE n integer;
BEGIN
    IF NOT EXISTS (SELECT FROM audit.unsequenced) THEN RETURN 0; END IF;
    IF NOT pg_try_advisory_xact_lock(7238191, 1) THEN RETURN -1; END IF;
    -- A statement of its own: its snapshot must be younger than the lock, or it
    -- would not see the last leaves of the one who held the lock before.
    WITH taken AS (
        DELETE FROM audit.unsequenced u WHERE u.ctid = ANY (ARRAY(
            SELECT w.ctid FROM audit.unsequenced w
            WHERE w.digest IS NOT NULL OR EXISTS (SELECT FROM audit.event v WHERE v.retention = w.retention AND v.id = w.id)
            ORDER BY w.id LIMIT least(p_max, 10000) FOR UPDATE SKIP LOCKED))
        RETURNING u.*
    )
    INSERT INTO audit.leaf (seq, event_id, retention, leaf_hash)
    SELECT x.seq, x.id, x.retention,
           sha256('\x00'::bytea || convert_to('gwa1', 'UTF8') || int8send(x.seq)
                  || int8send((extract(epoch FROM x.recorded_at) * 1000000)::bigint) || coalesce(x.digest, (SELECT sha256(v.bytes) FROM audit.event v WHERE v.retention = x.retention AND v.id = x.id)))
    FROM (SELECT (SELECT coalesce(max(l.seq), -1) FROM audit.leaf l) + row_number() OVER (ORDER BY t.id) AS seq, t.* FROM taken t) x;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
-- +goose StatementEnd

RESET ROLE;

-- The decision of an ordinary mail is a little over the 2 kB from where a row is
-- made smaller. LZ4 does it in a fraction of the time; a server that was built
-- without it keeps to its own way. Rows that are there stay as they are.
-- +goose StatementBegin
DO $$ DECLARE part regclass; c text; BEGIN
    FOR part IN SELECT relid FROM pg_partition_tree('mail') LOOP
        FOREACH c IN ARRAY ARRAY['recipients', 'reasons', 'findings', 'engines', 'parts', 'auth', 'header_edits', 'raw_header'] LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION lz4', part, c);
        END LOOP;
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'the server cannot compress by LZ4';
END $$;
-- +goose StatementEnd

SELECT guard.seal();
