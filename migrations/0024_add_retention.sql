-- +goose Up
-- How long events are kept, on what basis, and how those whose time is over go:
-- month by month, sealed, with a protocol, and by two people where two are asked for.

SELECT audit.maintenance('0024', 'events are deleted when their time is over');

SET LOCAL ROLE mailward_owner;

CREATE TABLE audit_retention (
    class       text     PRIMARY KEY,
    keep        interval NOT NULL,
    year_end    boolean  NOT NULL DEFAULT false, -- kept to the end of the year in which the time ends
    legal_basis text     NOT NULL CHECK (legal_basis <> ''),
    CHECK (keep >= interval '90 days' AND keep <= interval '10 years')
);
INSERT INTO audit_retention (class, keep, year_end, legal_basis) VALUES
    ('sec-400d', '400 days', false, 'Art. 6(1)(f) GDPR with Implementing Regulation (EU) 2024/2690, annex 3.2.5, and § 30 BSIG: a yearly audit must still see the same month of the year before'),
    ('sec-3y', '3 years', true, 'Art. 6(1)(f) and 17(3)(e) GDPR: establishment, exercise or defence of legal claims; limitation of three years to the end of the year, §§ 195 and 199 BGB'),
    ('incident', '3 years', true, 'Art. 6(1)(c) GDPR with §§ 30 and 32 BSIG: proof of reports and of the handling of incidents; Art. 17(3)(e) GDPR');

-- Events that were deleted when their time was over. Their leaves stay.
CREATE TABLE audit.purge (
    event_id  uuid        PRIMARY KEY, -- the protocol
    retention text        NOT NULL,
    from_id   uuid        NOT NULL,    -- ids from here
    end_id    uuid        NOT NULL,    -- to before here
    events    bigint      NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON audit.purge TO mailward_app, mailward_guard;
GRANT SELECT, UPDATE ON audit_retention TO mailward_app;
GRANT SELECT ON audit_retention TO mailward_guard;

RESET ROLE;

SELECT guard.record_table('audit_retention', 'retention', 'class,keep,year_end,legal_basis', '', '', 'sec-3y', 'IUD');

-- Partitions of whole months whose events are all past their time, the oldest
-- first, and why one cannot go yet.
-- +goose StatementBegin
CREATE FUNCTION audit.purgeable() RETURNS TABLE (partition text, class text, month date, kept_until timestamptz, why_not text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE r record; top bigint; sealed bigint; anchored bigint;
BEGIN
    SELECT coalesce(max(c.size), 0) INTO sealed FROM audit.checkpoint c JOIN audit.origin o ON o.name = c.origin
        WHERE o.number = (SELECT max(x.number) FROM audit.origin x);
    SELECT max(a.size) INTO anchored FROM audit.anchor a JOIN audit.origin o ON o.name = a.origin
        WHERE a.ok AND o.number = (SELECT max(x.number) FROM audit.origin x);
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
        SELECT max(l.seq) INTO top FROM audit.leaf l WHERE l.retention = r.class AND l.event_id >= audit.uuid_at(r.month::timestamptz)
            AND l.event_id < audit.uuid_at((r.month + interval '1 month')::timestamptz);
        IF top >= sealed THEN
            why_not := 'not sealed yet';
        ELSIF anchored IS NOT NULL AND top >= anchored THEN
            why_not := 'no anchor has a checkpoint of it yet';
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
-- +goose StatementEnd

-- Deletes the events of one such month, after an event that is the protocol of
-- it: how many, which numbers, and a digest of their leaves. Where four eyes are
-- asked for, p_approval is what a second person has agreed to. Returns the protocol's id.
-- +goose StatementBegin
CREATE FUNCTION audit.purge_month(p_partition text, p_reason text, p_approval uuid DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE r record; lo uuid; hi uuid; n bigint; first bigint; last bigint; digest bytea; protocol uuid; ok record;
BEGIN
    IF coalesce(p_reason, '') = '' THEN
        RAISE EXCEPTION 'audit.purge_month needs a reason' USING ERRCODE = '22023';
    END IF;
    SELECT * INTO r FROM audit.purgeable() x WHERE x.partition = p_partition;
    IF NOT FOUND OR r.why_not <> '' THEN
        RAISE EXCEPTION 'audit.purge_month: % cannot go: %', p_partition, coalesce(nullif(r.why_not, ''), 'it is no month whose time is over') USING ERRCODE = '42501';
    END IF;
    IF (SELECT s.value FROM public.setting s WHERE s.key = 'four_eyes') = '"required"' THEN
        SELECT a.requested_by, a.approver_id INTO ok FROM public.approval a
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
                'kept_until', r.kept_until, 'requested_by', ok.requested_by, 'approver', ok.approver_id, 'approval', p_approval),
            'after', jsonb_build_object('events', 0), 'diff', '["events"]'::jsonb, 'before_sha256', NULL, 'after_sha256', NULL, 'object_version', NULL),
        'reason', jsonb_build_object('code', r.class, 'text', p_reason)));
    INSERT INTO audit.purge (event_id, retention, from_id, end_id, events) VALUES (protocol, r.class, lo, hi, n);
    PERFORM audit.remove_values('{}', ARRAY(SELECT l.event_id FROM audit.leaf l WHERE l.retention = r.class AND l.event_id >= lo AND l.event_id < hi));
    INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), 'retention', 'the events of ' || p_partition || ' are past their time');
    EXECUTE format('DROP TABLE audit.%I', p_partition);
    RETURN protocol;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION audit.purgeable(), audit.purge_month(text, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.purgeable(), audit.purge_month(text, text, uuid) TO mailward_app;

-- As before, but events that a protocol tells of are not missing.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint; top bigint;
BEGIN
    RETURN QUERY SELECT * FROM guard.schema_findings();
    IF NOT EXISTS (SELECT FROM guard.manifest) THEN
        RETURN NEXT 'the manifest of the guards is empty';
    END IF;
    IF (SELECT l.level FROM guard.level l) = 'full' AND NOT guard.trace_works() THEN
        RETURN NEXT 'the loopback connection of the tamper trace does not work';
    END IF;
    SELECT max(seq) INTO top FROM audit.leaf;
    SELECT count(*) INTO n FROM audit.leaf WHERE seq > top - 10000;
    IF n <> least(10000, coalesce(top, -1) + 1) THEN
        RETURN NEXT format('the sequence of events has a gap below number %s', top);
    END IF;
    SELECT count(*) INTO n FROM audit.leaf l WHERE l.seq > top - 1000 AND NOT EXISTS (SELECT FROM audit.event e WHERE e.retention = l.retention AND e.id = l.event_id)
      AND NOT EXISTS (SELECT FROM audit.purge p WHERE p.retention = l.retention AND l.event_id >= p.from_id AND l.event_id < p.end_id);
    IF n > 0 THEN
        RETURN NEXT format('%s of the last 1000 numbered events are gone', n);
    END IF;
    SELECT count(*) INTO n FROM audit.event e
    WHERE e.id >= audit.uuid_at(now() - interval '1 hour') AND e.recorded_at < now() - interval '1 minute'
      AND NOT EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = e.id AND l.retention = e.retention)
      AND NOT EXISTS (SELECT FROM audit.unsequenced u WHERE u.id = e.id);
    IF n > 0 THEN
        RETURN NEXT format('%s events of the last hour are neither numbered nor waiting for it', n);
    END IF;
END $$;
-- +goose StatementEnd

SELECT guard.protect('audit.purge', 'audit.purge_month(text,text,uuid)');
SELECT guard.seal();
