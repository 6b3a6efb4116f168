-- +goose Up
-- The functions through which the audit is written, and the guards that keep
-- it as it was written.

SET LOCAL ROLE mailward_guard;

-- A keyed hash (NMAC over the built-in sha256), so that equal values can be
-- found without being shown.
-- +goose StatementBegin
CREATE FUNCTION guard.keyed_hash(key_name text, value text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(s.key || sha256(s.key || convert_to(value, 'UTF8'))) FROM guard.secret s WHERE s.name = key_name
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.keyed_hash(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.keyed_hash(text, text) TO mailward_owner;

-- Leaves a row in audit.tamper_attempt that outlives a rollback, by way of a
-- connection of its own. If even that fails, the server's log still has it.
-- +goose StatementBegin
CREATE FUNCTION guard.trace(operation text, object text, role_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE LOG 'mailward-tamper operation=% object=% session_role=% role=% client=%', operation, object, session_user, role_name, inet_client_addr();
    PERFORM guard.dblink_exec('mailward_loopback', format(
        'INSERT INTO audit.tamper_attempt (operation, object, session_role, current_role_name, client_addr, application, query) VALUES (%L, %L, %L, %L, %L, %L, %L)',
        operation, object, session_user, role_name, coalesce(host(inet_client_addr()), ''),
        coalesce(current_setting('application_name', true), ''), left(coalesce(current_query(), ''), 2000)));
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'mailward-tamper trace not written: %', SQLERRM;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.trace(text, text, text) FROM PUBLIC;

-- Refuses a change and says so in the trace. Runs per statement, so that an
-- attempt that hits no row is an attempt too.
-- +goose StatementBegin
CREATE FUNCTION guard.refuse() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guard.trace(TG_OP, format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME), session_user);
    RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END $$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION guard.refuse() TO PUBLIC;

-- Says whether the loopback connection of the trace works.
-- +goose StatementBegin
CREATE FUNCTION guard.trace_works() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM * FROM guard.dblink('mailward_loopback', 'SELECT current_database()::text') AS t(name text)
    WHERE t.name = current_database();
    RETURN FOUND;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.trace_works() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.trace_works() TO mailward_app;

-- Whether this very transaction may change the guarded schemas.
-- +goose StatementBegin
CREATE FUNCTION guard.in_maintenance() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM guard.maintenance m WHERE m.xid = pg_current_xact_id_if_assigned())
$$;
-- +goose StatementEnd

RESET ROLE;
SET LOCAL ROLE mailward_owner;

-- Milliseconds since 1970 of a UUIDv7 (RFC 9562 §5.7).
-- +goose StatementBegin
CREATE FUNCTION audit.uuid_ms(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint
$$;
-- +goose StatementEnd

-- The smallest UUIDv7 of a moment: a partition's bound.
-- +goose StatementBegin
CREATE FUNCTION audit.uuid_at(t timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;
-- +goose StatementEnd

-- Adds one event. p_bytes is the canonical JSON; p_pii the personal values that
-- it commits to: [{path, value, salt (hex)}]. The database adds its own time,
-- role and client address. The same id with the same bytes is a retry and does
-- nothing; with other bytes it is refused.
-- +goose StatementBegin
CREATE FUNCTION audit.append(p_id uuid, p_bytes bytea, p_pii jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e    jsonb := convert_from(p_bytes, 'UTF8')::jsonb;
    keep text  := e #>> '{class,retention}';
    now_ms bigint := extract(epoch FROM clock_timestamp()) * 1000;
    old  bytea;
    p    record;
BEGIN
    IF (e ->> 'id') IS DISTINCT FROM p_id::text OR coalesce(e ->> 'action', '') = '' OR coalesce(e #>> '{actor,type}', '') = '' OR keep IS NULL THEN
        RAISE EXCEPTION 'audit.append: the event lacks its id, action, actor or retention class' USING ERRCODE = '22023';
    END IF;
    IF abs(audit.uuid_ms(p_id) - now_ms) > 300000 THEN
        RAISE EXCEPTION 'audit.append: the event''s id is more than 5 minutes off the database''s clock' USING ERRCODE = '22008';
    END IF;
    SELECT bytes INTO old FROM audit.event WHERE retention = keep AND id = p_id;
    IF FOUND THEN
        IF old = p_bytes THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;

    INSERT INTO audit.event (id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome,
                             actor_type, actor_id, target_ids, actor_blind, ip_blind)
    VALUES (p_id, keep, clock_timestamp(), session_user, inet_client_addr(), p_bytes, (e ->> 'workspace_id')::uuid,
            e ->> 'action', coalesce(e ->> 'phase', 'result'), coalesce(e #>> '{outcome,result}', 'success'),
            e #>> '{actor,type}', coalesce(e #>> '{actor,id}', ''),
            ARRAY(SELECT t ->> 'id' FROM jsonb_array_elements(CASE jsonb_typeof(e -> 'targets') WHEN 'array' THEN e -> 'targets' ELSE '[]' END) t WHERE t ->> 'id' IS NOT NULL),
            (SELECT guard.keyed_hash('blind', lower(x ->> 'value')) FROM jsonb_array_elements(p_pii) x WHERE x ->> 'path' = 'actor.email'),
            (SELECT guard.keyed_hash('blind', lower(x ->> 'value')) FROM jsonb_array_elements(p_pii) x WHERE x ->> 'path' = 'source.ip'));

    FOR p IN SELECT x ->> 'path' AS path, x ->> 'value' AS value, decode(x ->> 'salt', 'hex') AS salt FROM jsonb_array_elements(p_pii) x LOOP
        -- A personal value that the event does not commit to could be swapped later.
        IF position('sha256:' || encode(sha256(p.salt || convert_to(p.value, 'UTF8')), 'hex') IN convert_from(p_bytes, 'UTF8')) = 0 THEN
            RAISE EXCEPTION 'audit.append: the event does not commit to its value %', p.path USING ERRCODE = '22023';
        END IF;
        INSERT INTO audit.pii (event_id, path, value, salt, blind) VALUES (p_id, p.path, p.value, p.salt, guard.keyed_hash('blind', lower(p.value)));
    END LOOP;
    INSERT INTO audit.unsequenced (id, retention, recorded_at) VALUES (p_id, keep, clock_timestamp());
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.append(uuid, bytea, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) TO mailward_app, mailward_guard;

-- The blind index of a value that somebody looks for.
-- +goose StatementBegin
CREATE FUNCTION audit.blind(value text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT guard.keyed_hash('blind', lower(value))
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.blind(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.blind(text) TO mailward_app;

-- Numbers up to p_max waiting events, in the order of their ids, and makes
-- their leaves (docs/security.md gives the bytes that a leaf covers). Only one
-- caller works at a time; the others get -1. Returns how many it numbered.
-- +goose StatementBegin
CREATE FUNCTION audit.sequence(p_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7238191, 1) THEN RETURN -1; END IF;
    WITH picked AS (
        SELECT u.id, u.retention FROM audit.unsequenced u ORDER BY u.id LIMIT p_max FOR UPDATE SKIP LOCKED
    ), taken AS (
        DELETE FROM audit.unsequenced u USING picked p WHERE u.id = p.id RETURNING p.id, p.retention
    ), numbered AS (
        SELECT (SELECT coalesce(max(l.seq), -1) FROM audit.leaf l) + row_number() OVER (ORDER BY t.id) AS seq, t.id, t.retention FROM taken t
    )
    INSERT INTO audit.leaf (seq, event_id, retention, leaf_hash)
    SELECT x.seq, x.id, x.retention,
           sha256('\x00'::bytea || convert_to('gwa1', 'UTF8') || int8send(x.seq)
                  || int8send((extract(epoch FROM e.recorded_at) * 1000000)::bigint) || sha256(e.bytes))
    FROM numbered x JOIN audit.event e ON e.retention = x.retention AND e.id = x.id;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.sequence(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.sequence(integer) TO mailward_app;

-- Moves the cursor of a stream, forward only.
-- +goose StatementBegin
CREATE FUNCTION audit.streamed(p_sink text, p_next bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.stream_cursor (sink, next_seq) VALUES (p_sink, p_next)
    ON CONFLICT (sink) DO UPDATE SET next_seq = greatest(audit.stream_cursor.next_seq, excluded.next_seq), updated_at = now()
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.streamed(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.streamed(text, bigint) TO mailward_app;

-- Hands out the tamper attempts that no event tells of yet, and notes that they
-- were handed out, in the caller's transaction.
-- +goose StatementBegin
CREATE FUNCTION audit.take_tamper_attempts() RETURNS SETOF audit.tamper_attempt
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE upto bigint; from_id bigint;
BEGIN
    SELECT last_id INTO from_id FROM audit.tamper_reported FOR UPDATE;
    SELECT max(id) INTO upto FROM audit.tamper_attempt;
    IF upto IS NULL OR upto <= from_id THEN RETURN; END IF;
    UPDATE audit.tamper_reported SET last_id = upto;
    RETURN QUERY SELECT * FROM audit.tamper_attempt t WHERE t.id > from_id AND t.id <= upto ORDER BY t.id;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.take_tamper_attempts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.take_tamper_attempts() TO mailward_app;

RESET ROLE;

-- Puts the guards on one table of the audit. Owned by whoever migrates.
-- +goose StatementBegin
CREATE FUNCTION guard.protect(t regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER mailward_no_change BEFORE UPDATE OR DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()', t);
    EXECUTE format('CREATE TRIGGER mailward_no_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()', t);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_no_change', t);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_no_truncate', t);
    -- The row triggers of the parent come to its partitions by themselves.
    IF NOT (SELECT relispartition FROM pg_class WHERE oid = t) THEN
        EXECUTE format('CREATE TRIGGER mailward_no_row_change BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION guard.refuse()', t);
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_no_row_change', t);
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.protect(regclass) FROM PUBLIC;

-- Makes the partitions from this month to the one that holds p_ahead from now,
-- and of the ledger from today on, with the guards on each. Runs as its owner,
-- since the program may create nothing.
-- +goose StatementBegin
CREATE FUNCTION guard.make_partitions(p_ahead interval DEFAULT '7 days') RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    keep text; parent text; part text; t timestamptz; n integer := 0; new_xid xid8 := NULL;
BEGIN
    PERFORM pg_advisory_xact_lock(7238191, 2);
    IF NOT guard.in_maintenance() THEN
        new_xid := pg_current_xact_id();
        INSERT INTO guard.maintenance (xid, version, reason) VALUES (new_xid, 'partitions', 'regular partitions');
    END IF;
    FOREACH keep IN ARRAY ARRAY['sec-400d', 'sec-3y', 'incident'] LOOP
        parent := 'event_' || replace(keep, '-', '_');
        IF to_regclass('audit.' || parent) IS NULL THEN
            EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.event FOR VALUES IN (%L) PARTITION BY RANGE (id)', parent, keep);
            EXECUTE format('ALTER TABLE audit.%I OWNER TO mailward_owner', parent);
            PERFORM guard.protect(('audit.' || parent)::regclass);
            EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.%I DEFAULT', parent || '_default', parent);
            EXECUTE format('ALTER TABLE audit.%I OWNER TO mailward_owner', parent || '_default');
            PERFORM guard.protect(('audit.' || parent || '_default')::regclass);
        END IF;
        t := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
        WHILE t <= now() + p_ahead LOOP
            part := parent || to_char(t AT TIME ZONE 'UTC', '_YYYY_MM');
            IF to_regclass('audit.' || part) IS NULL THEN
                EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.%I FOR VALUES FROM (%L) TO (%L)', part, parent,
                    audit.uuid_at(t), audit.uuid_at((t AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
                EXECUTE format('ALTER TABLE audit.%I OWNER TO mailward_owner', part);
                PERFORM guard.protect(('audit.' || part)::regclass);
                n := n + 1;
            END IF;
            t := (t AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
        END LOOP;
    END LOOP;
    FOREACH parent IN ARRAY ARRAY['mail', 'mail_outcome'] LOOP
        t := date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
        WHILE t <= now() + p_ahead LOOP
            part := parent || to_char(t AT TIME ZONE 'UTC', '_YYYY_MM_DD');
            IF to_regclass('public.' || part) IS NULL THEN
                EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)', part, parent,
                    audit.uuid_at(t), audit.uuid_at(t + interval '1 day'));
                EXECUTE format('ALTER TABLE public.%I OWNER TO mailward_owner', part);
                n := n + 1;
            END IF;
            t := t + interval '1 day';
        END LOOP;
    END LOOP;
    IF new_xid IS NOT NULL THEN
        DELETE FROM guard.maintenance WHERE xid = new_xid;
    END IF;
    RETURN n;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.make_partitions(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.make_partitions(interval) TO mailward_app;

SELECT guard.protect('audit.event'), guard.protect('audit.pii'), guard.protect('audit.leaf'), guard.protect('audit.tamper_attempt');
SELECT guard.make_partitions('35 days');
