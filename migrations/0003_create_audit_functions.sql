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

-- The role that acts: the one that was set, or else the one that logged in.
-- +goose StatementBegin
CREATE FUNCTION guard.acting_role() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(nullif(current_setting('role', true), 'none'), session_user::text)
$$;
-- +goose StatementEnd

-- Leaves a row in audit.tamper_attempt that outlives a rollback, by way of a
-- connection of its own. If the table is locked by the attempt itself, a spare
-- one takes the row; if even that fails, the server's log still has it.
-- +goose StatementBegin
CREATE FUNCTION guard.trace(operation text, object text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    role_name text := guard.acting_role();
    row_values text := format('(operation, object, session_role, current_role_name, client_addr, application, query) VALUES (%L, %L, %L, %L, %L, %L, %L)',
        operation, left(object, 500), session_user, role_name, coalesce(host(inet_client_addr()), ''),
        coalesce(current_setting('application_name', true), ''), left(coalesce(current_query(), ''), 2000));
BEGIN
    RAISE LOG 'mailward-tamper operation=% object=% session_role=% role=% client=%', operation, object, session_user, role_name, inet_client_addr();
    BEGIN
        PERFORM guard.dblink_exec('mailward_loopback', 'INSERT INTO audit.tamper_attempt ' || row_values);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'mailward-tamper trace goes to the spare table: %', SQLERRM;
        PERFORM guard.dblink_exec('mailward_loopback', 'INSERT INTO audit.tamper_spare ' || row_values);
    END;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'mailward-tamper trace not written: %', SQLERRM;
END $$;
-- +goose StatementEnd

-- Refuses a change and says so in the trace. Runs per statement, so that an
-- attempt that hits no row is an attempt too.
-- +goose StatementBegin
CREATE FUNCTION guard.refuse() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guard.trace(TG_OP, format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    IF TG_TABLE_SCHEMA = 'public' THEN
        RAISE EXCEPTION '% of %.% is refused: it would leave no record', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '42501';
    END IF;
    RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END $$;
-- +goose StatementEnd

-- Refuses a change that does not come from one function, the trigger's
-- argument: audit.event is written by audit.append and by nothing else. The call
-- stack says where it comes from, in words that differ by language, so only the
-- function's signature is looked for.
-- +goose StatementBegin
CREATE FUNCTION guard.only_through() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE stack text;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF position(' ' || TG_ARGV[0] || ' ' IN replace(stack, E'\n', ' ')) > 0 THEN RETURN NULL; END IF;
    PERFORM guard.trace(TG_OP, format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RAISE EXCEPTION '%.% is written by % alone: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0], TG_OP USING ERRCODE = '42501';
END $$;
-- +goose StatementEnd

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

-- Whether this very transaction may change the guarded schemas. The time keeps
-- a row that came with a restored dump from opening a later transaction that
-- happens to have its number.
-- +goose StatementBegin
CREATE FUNCTION guard.in_maintenance() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM guard.maintenance m WHERE m.xid = pg_current_xact_id_if_assigned() AND m.at >= now())
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
-- nothing, at any time; with other bytes it is refused.
-- +goose StatementBegin
CREATE FUNCTION audit.append(p_id uuid, p_bytes bytea, p_pii jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto AS $$
DECLARE
    e    jsonb := convert_from(p_bytes, 'UTF8')::jsonb;
    keep text  := e #>> '{class,retention}';
    at   timestamptz := clock_timestamp();
    old  bytea;
    p    record;
BEGIN
    SELECT v.bytes INTO old FROM audit.event v WHERE v.id = p_id LIMIT 1;
    IF FOUND THEN
        IF old = p_bytes THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    IF (e ->> 'id') IS DISTINCT FROM p_id::text OR coalesce(e ->> 'action', '') = '' OR coalesce(e #>> '{actor,type}', '') = '' OR keep IS NULL THEN
        RAISE EXCEPTION 'audit.append: the event lacks its id, action, actor or retention class' USING ERRCODE = '22023';
    END IF;
    IF substr(p_id::text, 15, 1) <> '7' OR abs(audit.uuid_ms(p_id) - extract(epoch FROM at) * 1000) > 300000 THEN
        RAISE EXCEPTION 'audit.append: the event''s id is no UUIDv7 within 5 minutes of the database''s clock' USING ERRCODE = '22008';
    END IF;

    INSERT INTO audit.event (id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome,
                             actor_type, actor_id, target_ids, actor_blind, ip_blind)
    VALUES (p_id, keep, at, session_user, inet_client_addr(), p_bytes, (e ->> 'workspace_id')::uuid,
            e ->> 'action', coalesce(e ->> 'phase', 'result'), coalesce(e #>> '{outcome,result}', 'success'),
            e #>> '{actor,type}', coalesce(e #>> '{actor,id}', ''),
            ARRAY(SELECT t ->> 'id' FROM jsonb_array_elements(CASE jsonb_typeof(e -> 'targets') WHEN 'array' THEN e -> 'targets' ELSE '[]' END) t WHERE t ->> 'id' IS NOT NULL),
            (SELECT guard.keyed_hash('blind', lower(x ->> 'value')) FROM jsonb_array_elements(p_pii) x WHERE x ->> 'path' = 'actor.email'),
            (SELECT guard.keyed_hash('blind', lower(x ->> 'value')) FROM jsonb_array_elements(p_pii) x WHERE x ->> 'path' = 'source.ip'))
    ON CONFLICT (retention, id) DO NOTHING;
    IF NOT FOUND THEN -- the first try was still under way when we looked
        IF EXISTS (SELECT FROM audit.event v WHERE v.retention = keep AND v.id = p_id AND v.bytes = p_bytes) THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;

    FOR p IN SELECT x ->> 'path' AS path, x ->> 'value' AS value, decode(x ->> 'salt', 'hex') AS salt FROM jsonb_array_elements(p_pii) x LOOP
        -- A personal value that the event does not commit to could be swapped later.
        IF e #> string_to_array(p.path, '.') IS DISTINCT FROM jsonb_build_object('ref', 'pii:' || p.path,
                'c', 'sha256:' || encode(sha256(p.salt || convert_to(p.value, 'UTF8')), 'hex')) THEN
            RAISE EXCEPTION 'audit.append: the event does not commit to its value %', p.path USING ERRCODE = '22023';
        END IF;
        INSERT INTO audit.pii (event_id, path, value, salt, blind) VALUES (p_id, p.path, p.value, p.salt, guard.keyed_hash('blind', lower(p.value)));
    END LOOP;
    INSERT INTO audit.unsequenced (id, retention, recorded_at) VALUES (p_id, keep, at);
END $$;
-- +goose StatementEnd

-- The blind index of a value that somebody looks for.
-- +goose StatementBegin
CREATE FUNCTION audit.blind(value text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT guard.keyed_hash('blind', lower(value))
$$;
-- +goose StatementEnd

-- Numbers up to p_max waiting events, in the order of their ids, and makes
-- their leaves (docs/security.md gives the bytes that a leaf covers). Only one
-- caller works at a time; the others get -1. Returns how many it numbered. A
-- waiting row whose event is gone stays, and shows as lag.
-- +goose StatementBegin
CREATE FUNCTION audit.sequence(p_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto AS $$
DECLARE n integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7238191, 1) THEN RETURN -1; END IF;
    -- A statement of its own: its snapshot must be younger than the lock, or it
    -- would not see the last leaves of the one who held the lock before.
    WITH picked AS (
        SELECT u.id, u.retention, e.recorded_at, e.bytes
        FROM audit.unsequenced u JOIN audit.event e ON e.retention = u.retention AND e.id = u.id
        ORDER BY u.id LIMIT least(p_max, 10000) FOR UPDATE OF u SKIP LOCKED
    ), taken AS (
        DELETE FROM audit.unsequenced u USING picked p WHERE u.id = p.id RETURNING p.*
    ), numbered AS (
        SELECT (SELECT coalesce(max(l.seq), -1) FROM audit.leaf l) + row_number() OVER (ORDER BY t.id) AS seq, t.* FROM taken t
    )
    INSERT INTO audit.leaf (seq, event_id, retention, leaf_hash)
    SELECT x.seq, x.id, x.retention,
           sha256('\x00'::bytea || convert_to('gwa1', 'UTF8') || int8send(x.seq)
                  || int8send((extract(epoch FROM x.recorded_at) * 1000000)::bigint) || sha256(x.bytes))
    FROM numbered x;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
-- +goose StatementEnd

-- Moves the cursor of a stream, forward only and never past the last leaf.
-- +goose StatementBegin
CREATE FUNCTION audit.streamed(p_sink text, p_next bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.stream_cursor (sink, next_seq)
    SELECT p_sink, least(p_next, (SELECT coalesce(max(l.seq), -1) + 1 FROM audit.leaf l))
    ON CONFLICT (sink) DO UPDATE SET next_seq = greatest(audit.stream_cursor.next_seq, excluded.next_seq), updated_at = now();
END $$;
-- +goose StatementEnd

-- Hands out up to p_max tamper attempts that no event tells of yet, and notes
-- in the caller's transaction that they were handed out: the caller's events
-- and the notes are there together or not at all.
-- +goose StatementBegin
CREATE FUNCTION audit.take_tamper_attempts(p_max integer) RETURNS SETOF audit.tamper_attempt
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(7238191, 5) THEN RETURN; END IF;
    RETURN QUERY
    WITH seen AS (
        SELECT * FROM audit.tamper_attempt UNION ALL SELECT * FROM audit.tamper_spare
    ), fresh AS (
        SELECT s.* FROM seen s WHERE NOT EXISTS (SELECT FROM audit.tamper_reported r WHERE r.attempt_id = s.id) ORDER BY s.at, s.id LIMIT p_max
    ), noted AS (
        INSERT INTO audit.tamper_reported (attempt_id) SELECT f.id FROM fresh f
    )
    SELECT * FROM fresh;
END $$;
-- +goose StatementEnd

RESET ROLE;

-- One trigger that is always on, also for a superuser in replica mode.
-- +goose StatementBegin
CREATE FUNCTION guard.add_trigger(t regclass, name text, what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER %I BEFORE %s', name, replace(what, '%t', t::text));
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t, name);
END $$;
-- +goose StatementEnd

-- Puts the guards on one table of the audit. Statement triggers do not come to
-- partitions by themselves, so this is called for each.
-- +goose StatementBegin
CREATE FUNCTION guard.protect(t regclass, insert_through text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guard.add_trigger(t, 'mailward_no_change', 'UPDATE OR DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');
    PERFORM guard.add_trigger(t, 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');
    IF insert_through IS NOT NULL THEN
        PERFORM guard.add_trigger(t, 'mailward_only_through', format('INSERT ON %%t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(%L)', insert_through));
    END IF;
    -- The row triggers of the parent come to its partitions by themselves.
    IF NOT (SELECT relispartition FROM pg_class WHERE oid = t) THEN
        PERFORM guard.add_trigger(t, 'mailward_no_row_change', 'UPDATE OR DELETE ON %t FOR EACH ROW EXECUTE FUNCTION guard.refuse()');
    ELSE
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_no_row_change', t);
    END IF;
END $$;
-- +goose StatementEnd

-- Makes one partition unless it is there, and returns how many it made. bounds
-- is what stands after FOR VALUES, or DEFAULT.
-- +goose StatementBegin
CREATE FUNCTION guard.add_partition(space text, parent text, part text, bounds text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass(format('%I.%I', space, part)) IS NOT NULL THEN RETURN 0; END IF;
    IF NOT guard.in_maintenance() THEN
        INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), 'partitions', 'partitions of the coming days');
    END IF;
    EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I.%I %s', space, part, space, parent, bounds);
    EXECUTE format('ALTER TABLE %I.%I OWNER TO mailward_owner', space, part);
    IF space = 'audit' THEN
        PERFORM guard.protect(format('%I.%I', space, part)::regclass, 'audit.append(uuid,bytea,jsonb)');
    END IF;
    RETURN 1;
EXCEPTION WHEN check_violation THEN
    -- The default partition holds rows of that time already: they stay there.
    RAISE WARNING 'partition %.% not made: %', space, part, SQLERRM;
    RETURN 0;
END $$;
-- +goose StatementEnd

-- Makes the partitions from now to the one that holds p_ahead from now, of the
-- audit by month and of the ledger by day, with the guards on each. Runs as its
-- owner, since the program may create nothing. A new partition locks its parent
-- for a moment: where an open transaction holds it, this gives up at once, so
-- that nobody queues behind it, and is tried again later (there are days).
-- +goose StatementBegin
CREATE FUNCTION guard.make_partitions(p_ahead interval DEFAULT '7 days') RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    keep text; parent text; t timestamptz; n integer := 0; until timestamptz := now() + least(p_ahead, interval '62 days');
BEGIN
    IF NOT pg_try_advisory_xact_lock(7238191, 2) THEN RETURN 0; END IF; -- somebody else is at it
    FOREACH keep IN ARRAY ARRAY['sec-400d', 'sec-3y', 'incident'] LOOP
        parent := 'event_' || replace(keep, '-', '_');
        n := n + guard.add_partition('audit', 'event', parent, format('FOR VALUES IN (%L) PARTITION BY RANGE (id)', keep));
        n := n + guard.add_partition('audit', parent, parent || '_default', 'DEFAULT');
        t := date_trunc('month', now());
        WHILE t <= until LOOP
            n := n + guard.add_partition('audit', parent, parent || to_char(t, '_YYYY_MM'),
                format('FOR VALUES FROM (%L) TO (%L)', audit.uuid_at(t), audit.uuid_at(t + interval '1 month')));
            t := t + interval '1 month';
        END LOOP;
    END LOOP;
    FOREACH parent IN ARRAY ARRAY['mail', 'mail_outcome'] LOOP
        t := date_trunc('day', now());
        WHILE t <= until LOOP
            n := n + guard.add_partition('public', parent, parent || to_char(t, '_YYYY_MM_DD'),
                format('FOR VALUES FROM (%L) TO (%L)', audit.uuid_at(t), audit.uuid_at(t + interval '1 day')));
            t := t + interval '1 day';
        END LOOP;
    END LOOP;
    RETURN n;
END $$;
-- +goose StatementEnd

SELECT guard.protect('audit.event', 'audit.append(uuid,bytea,jsonb)'), guard.protect('audit.pii', 'audit.append(uuid,bytea,jsonb)'),
       guard.protect('audit.leaf', 'audit.sequence(integer)'), guard.protect('audit.tamper_attempt'), guard.protect('audit.tamper_spare'),
       guard.protect('audit.tamper_reported', 'audit.take_tamper_attempts(integer)'), guard.protect('guard.maintenance'),
       -- A waiting event that is taken away would never be numbered, a cursor
       -- that is moved would hide events from the stream.
       guard.add_trigger('audit.unsequenced', 'mailward_only_append', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''audit.append(uuid,bytea,jsonb)'')'),
       guard.add_trigger('audit.unsequenced', 'mailward_only_sequence', 'UPDATE OR DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''audit.sequence(integer)'')'),
       guard.add_trigger('audit.unsequenced', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('audit.stream_cursor', 'mailward_only_streamed', 'INSERT OR UPDATE OR DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''audit.streamed(text,bigint)'')'),
       guard.add_trigger('audit.stream_cursor', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('guard.secret', 'mailward_no_change', 'INSERT OR UPDATE OR DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('guard.secret', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('guard.manifest', 'mailward_only_seal', 'INSERT OR UPDATE OR DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''guard.seal()'')'),
       guard.add_trigger('guard.manifest', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');
SELECT guard.make_partitions('35 days');
