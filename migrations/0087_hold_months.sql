-- +goose Up
-- A month of the record stays while it is not whole, while a legal hold is on a mail
-- that it is about or an export needs it, and, where there are anchors, until one has
-- a checkpoint of the origin of today. An export or a bundle that is being written counts
-- also where that is done at the host: half of it would be from before the deletion and
-- half from after it, and would look forged.

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
        ELSIF EXISTS (SELECT FROM public.audit_export x WHERE x.state = 'running' AND x.updated_at > now() - interval '10 minutes')
            OR EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.classid = 7238191 AND k.objid = 16 AND k.mode = 'ShareLock' AND k.granted
                       AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) THEN
            why_not := 'an export of the audit is under way';
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
-- +goose StatementEnd

-- Before, it failed where no second person is asked for.
-- Deletes the events of one such month, after an event that is the protocol of
-- it: how many, which numbers, and a digest of their leaves. Where four eyes are
-- asked for, p_approval is what a second person has agreed to. Returns the protocol's id.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.purge_month(p_partition text, p_reason text, p_approval uuid DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE r record; lo uuid; hi uuid; n bigint; first bigint; last bigint; digest bytea; protocol uuid; asked uuid; agreed uuid;
BEGIN
    IF coalesce(p_reason, '') = '' THEN
        RAISE EXCEPTION 'audit.purge_month needs a reason' USING ERRCODE = '22023';
    END IF;
    -- Whoever writes an export holds this lock shared, and two deletions at once would
    -- wait for each other.
    IF NOT pg_try_advisory_xact_lock(7238191, 16) THEN
        RAISE EXCEPTION 'audit.purge_month: % cannot go: %', p_partition, CASE WHEN EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.classid = 7238191
                AND k.objid = 16 AND k.mode = 'ShareLock' AND k.granted AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
            THEN 'an export of the audit is under way' ELSE 'another deletion is under way' END USING ERRCODE = '42501';
    END IF;
    SELECT * INTO r FROM audit.purgeable() x WHERE x.partition = p_partition;
    IF NOT FOUND OR r.why_not <> '' THEN
        RAISE EXCEPTION 'audit.purge_month: % cannot go: %', p_partition, coalesce(nullif(r.why_not, ''), 'it is no month whose time is over') USING ERRCODE = '42501';
    END IF;
    IF (SELECT s.value FROM public.setting s WHERE s.key = 'four_eyes') = '"required"' THEN
        SELECT a.requested_by, a.approver_id INTO asked, agreed FROM public.approval a
        WHERE a.subject_type = 'retention' AND a.subject_id = p_approval AND a.decision = 'approved' AND a.approver_id <> a.requested_by
          AND a.comment = p_partition AND a.decided_at > now() - interval '7 days'
          AND NOT EXISTS (SELECT FROM public.approval d WHERE d.subject_type = 'retention' AND d.subject_id = p_approval AND d.decision = 'denied');
        IF NOT FOUND THEN
            RAISE EXCEPTION 'audit.purge_month: a second person has to agree to the deletion of %', p_partition USING ERRCODE = '42501';
        END IF;
    END IF;
    lo := audit.uuid_at(r.month::timestamptz);
    hi := audit.uuid_at((r.month + interval '1 month')::timestamptz);
    SELECT count(*), min(l.seq), max(l.seq), sha256(coalesce(string_agg(int8send(l.seq) || l.leaf_hash, ''::bytea ORDER BY l.seq), ''))
    INTO n, first, last, digest FROM audit.leaf l
    WHERE l.retention = r.class AND l.event_id >= lo AND l.event_id < hi;
    -- Events that came after the month was made sit in the default partition: they stay, and so does the month.
    IF EXISTS (SELECT FROM audit.event e WHERE e.retention = r.class AND e.id >= lo AND e.id < hi AND e.tableoid <> ('audit.' || quote_ident(p_partition))::regclass) THEN
        RAISE EXCEPTION 'audit.purge_month: events of that month are also in the default partition' USING ERRCODE = '42501';
    END IF;
    protocol := guard.record(jsonb_build_object('action', 'audit.partition.purged', 'retention', 'sec-3y', 'workspace_id', NULL, 'severity', 'warning',
        'targets', jsonb_build_array(jsonb_build_object('type', 'audit_partition', 'id', p_partition, 'label', r.class)),
        'change', jsonb_build_object('before', jsonb_build_object('events', n, 'first_seq', first, 'last_seq', last, 'leaves_sha256', encode(digest, 'hex'),
                'kept_until', r.kept_until, 'requested_by', asked, 'approver', agreed, 'approval', p_approval),
            'after', jsonb_build_object('events', 0), 'diff', '["events"]'::jsonb, 'before_sha256', NULL, 'after_sha256', NULL, 'object_version', NULL),
        'reason', jsonb_build_object('code', r.class, 'text', p_reason)));
    INSERT INTO audit.purge (event_id, retention, from_id, end_id, events) VALUES (protocol, r.class, lo, hi, n);
    PERFORM audit.remove_values('{}', ARRAY(SELECT l.event_id FROM audit.leaf l WHERE l.retention = r.class AND l.event_id >= lo AND l.event_id < hi));
    INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), 'retention', 'the events of ' || p_partition || ' are past their time');
    EXECUTE format('DROP TABLE audit.%I', p_partition);
    RETURN protocol;
END $$;
-- +goose StatementEnd

SELECT guard.seal();
