-- Opens a scratch database for millions of made-up events: no guards, no
-- indexes that slow the filling down, and partitions for the past year.
DO $$
DECLARE r record; t timestamptz;
BEGIN
    FOR r IN SELECT evtname FROM pg_event_trigger LOOP EXECUTE format('ALTER EVENT TRIGGER %I DISABLE', r.evtname); END LOOP;
    FOR t IN SELECT generate_series(date_trunc('month', now()) - interval '13 months', date_trunc('month', now()) - interval '1 month', '1 month') LOOP
        FOR r IN SELECT unnest(ARRAY['event_sec_400d', 'event_sec_3y']) AS parent LOOP
            PERFORM guard.add_partition('audit', r.parent, r.parent || to_char(t, '_YYYY_MM'),
                format('FOR VALUES FROM (%L) TO (%L)', audit.uuid_at(t), audit.uuid_at(t + interval '1 month')));
        END LOOP;
    END LOOP;
    FOR r IN SELECT c.oid::regclass AS t FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'audit' AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', r.t);
    END LOOP;
    CREATE TABLE public.fill_index AS
        SELECT pg_get_indexdef(i.indexrelid) AS def FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE i.indrelid = 'audit.event'::regclass AND NOT i.indisprimary;
    FOR r IN SELECT i.indexrelid::regclass AS name FROM pg_index i WHERE i.indrelid = 'audit.event'::regclass AND NOT i.indisprimary LOOP
        EXECUTE format('DROP INDEX %s', r.name);
    END LOOP;
    DROP INDEX audit.pii_blind_idx, audit.pii_value_idx;
END $$;
