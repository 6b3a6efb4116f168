-- Makes the indexes again and gathers what the planner needs.
DO $$
DECLARE r record;
BEGIN
    SET LOCAL maintenance_work_mem = '512MB';
    FOR r IN SELECT def FROM public.fill_index LOOP EXECUTE replace(r.def, ' ON ONLY ', ' ON '); END LOOP;
    CREATE INDEX pii_blind_idx ON audit.pii (blind);
    CREATE INDEX pii_value_idx ON audit.pii (blind, event_id DESC) WHERE path <> ALL ('{actor.email,source.ip}'::text[]);
    DROP TABLE public.fill_index;
END $$;
ANALYZE;
