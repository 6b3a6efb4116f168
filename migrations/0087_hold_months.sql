-- +goose Up
-- A month of the record stays while it is not whole, while a legal hold is on a mail
-- that it is about or an export needs it, and, where there are anchors, until one has
-- a checkpoint of the origin of today.

SELECT audit.maintenance('0087', 'months of the record stay while something needs them');

-- See 0024.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.purgeable() RETURNS TABLE (partition text, class text, month date, kept_until timestamptz, why_not text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE r record; n bigint; stored bigint; lo uuid; hi uuid; top bigint; sealed bigint; anchored bigint;
BEGIN
    SELECT coalesce(max(c.size), 0) INTO sealed FROM audit.checkpoint c JOIN audit.origin o ON o.name = c.origin
        WHERE o.number = (SELECT max(x.number) FROM audit.origin x);
    -- Where there are anchors, one has to have a checkpoint of today's origin.
    SELECT coalesce(max(a.size) FILTER (WHERE a.ok AND o.number = (SELECT max(x.number) FROM audit.origin x)), 0) INTO anchored
        FROM audit.anchor a JOIN audit.origin o ON o.name = a.origin HAVING count(*) > 0;
    FOR r IN
        SELECT c.relname::text AS name, k.class, k.keep, k.year_end, to_date(right(c.relname, 7), 'YYYY_MM') AS month
        FROM public.audit_retention k JOIN pg_class c ON c.relnamespace = 'audit'::regnamespace AND c.relispartition AND c.relkind = 'r'
            AND c.relname ~ ('^event_' || replace(k.class, '-', '_') || '_[0-9]{4}_[0-9]{2}$')
        ORDER BY 5, 1
    LOOP
        partition := r.name; class := r.class; month := r.month; why_not := '';
        kept_until := (r.month + interval '1 month')::timestamptz + r.keep;
        IF r.year_end THEN kept_until := date_trunc('year', kept_until) + interval '1 year'; END IF;
        CONTINUE WHEN kept_until > now();
        lo := audit.uuid_at(r.month::timestamptz);
        hi := audit.uuid_at((r.month + interval '1 month')::timestamptz);
        SELECT max(l.seq), count(*) INTO top, n FROM audit.leaf l WHERE l.retention = r.class AND l.event_id >= lo AND l.event_id < hi;
        SELECT count(*) INTO stored FROM audit.event e WHERE e.retention = r.class AND e.id >= lo AND e.id < hi;
        IF top >= sealed THEN
            why_not := 'not sealed yet';
        ELSIF anchored IS NOT NULL AND top >= anchored THEN
            why_not := 'no anchor has a checkpoint of it yet';
        ELSIF stored <> n THEN
            -- The protocol would cover what is missing for good.
            why_not := 'events of it are missing or without a number';
        ELSIF EXISTS (SELECT FROM public.quarantine_item q JOIN audit.event e ON e.target_ids @> ARRAY[q.id::text]
                      WHERE q.legal_hold_at IS NOT NULL AND e.retention = r.class AND e.id >= lo AND e.id < hi) THEN
            why_not := 'a legal hold is on a mail that events of it are about';
        ELSIF EXISTS (SELECT FROM public.evidence_export x CROSS JOIN unnest(x.item_ids) i JOIN audit.event e ON e.target_ids @> ARRAY[i::text]
                      WHERE x.state IN ('requested', 'approved', 'running') AND x.created_at > now() - interval '30 days' AND e.retention = r.class AND e.id >= lo AND e.id < hi) THEN
            why_not := 'an export of evidence that is not done needs events of it';
        ELSIF EXISTS (SELECT FROM public.audit_export x WHERE x.state = 'running' AND x.updated_at > now() - interval '10 minutes') THEN
            why_not := 'an export of the audit is under way';
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
-- +goose StatementEnd

SELECT guard.seal();
