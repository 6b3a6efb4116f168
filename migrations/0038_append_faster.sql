-- +goose Up
-- audit.append does the same for less: no SQL functions that are planned anew in
-- each transaction, no look into every partition, one statement for all personal
-- values of an event.

SELECT audit.maintenance('0038', 'audit.append and audit.sequence cost less');

SET LOCAL ROLE mailward_guard;

-- Encrypts some values with their salts (AES-256-CBC under a random IV each; the
-- event's commitment is what shows a change), and gives the tokens of their
-- subjects. The keyed hash is written out: a function in SQL would be planned
-- anew in each transaction.
-- +goose StatementBegin
CREATE FUNCTION guard.conceal_all(p_values text[], p_salts bytea[], OUT tokens bytea[], OUT sealed bytea[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto AS $$
DECLARE blind bytea; h bytea; iv bytea; s record;
BEGIN
    SELECT x.key INTO blind FROM guard.secret x WHERE x.name = 'blind';
    FOR i IN 1 .. coalesce(array_length(p_values, 1), 0) LOOP
        IF octet_length(p_salts[i]) IS DISTINCT FROM 16 THEN
            RAISE EXCEPTION 'guard.conceal_all: a salt has 16 bytes' USING ERRCODE = '22023';
        END IF;
        h := sha256(blind || sha256(blind || convert_to(lower(p_values[i]), 'UTF8')));
        SELECT x.token, x.key INTO s FROM guard.subject x WHERE x.hash = h ORDER BY x.made_at, x.token LIMIT 1;
        IF NOT FOUND THEN
            INSERT INTO guard.subject (token, hash, key) VALUES (guard.random32(), h, guard.random32()) RETURNING subject.token, subject.key INTO s;
        END IF;
        iv := uuid_send(gen_random_uuid());
        tokens[i] := s.token;
        sealed[i] := iv || guard.encrypt_iv(p_salts[i] || convert_to(p_values[i], 'UTF8'), s.key, iv, 'aes-cbc/pad:pkcs');
    END LOOP;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION guard.conceal_all(text[], bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.conceal_all(text[], bytea[]) TO mailward_owner;

RESET ROLE;
SET LOCAL ROLE mailward_owner;

-- Adds one event: see 0003 for what it takes. The same id with the same bytes is
-- a retry and does nothing, at any time; with other bytes it is refused.
--
-- An id stands in one class only. The event's own key says so within its class,
-- the key of those that wait across classes, and the leaves for those that wait
-- no more: they are looked at last, in a statement (and so a snapshot) of its own,
-- for the sequencer moves an event from the one to the other at once.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.append(p_id uuid, p_bytes bytea, p_pii jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto AS $$
DECLARE
    e       jsonb := convert_from(p_bytes, 'UTF8')::jsonb;
    keep    text  := e #>> '{class,retention}';
    at      timestamptz := clock_timestamp();
    ms      bigint;
    old     bytea;
    p       jsonb;
    c       record;
    path    text;
    value   text;
    salt    bytea;
    paths   text[] := '{}';
    texts   text[] := '{}';
    salts   bytea[] := '{}';
    targets text[] := '{}';
    actor   bytea;
    ip      bytea;
BEGIN
    IF (e ->> 'id') IS DISTINCT FROM p_id::text OR coalesce(e ->> 'action', '') = '' OR coalesce(e #>> '{actor,type}', '') = '' OR keep IS NULL THEN
        RAISE EXCEPTION 'audit.append: the event lacks its id, action, actor or retention class' USING ERRCODE = '22023';
    END IF;
    ms := ('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint;
    IF substr(p_id::text, 15, 1) <> '7' OR abs(ms - extract(epoch FROM at) * 1000) > 300000 THEN
        SELECT v.bytes INTO old FROM audit.event v WHERE v.id = p_id LIMIT 1;
        IF old = p_bytes THEN RETURN; END IF;
        IF FOUND THEN
            RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
        END IF;
        RAISE EXCEPTION 'audit.append: the event''s id is no UUIDv7 within 5 minutes of the database''s clock' USING ERRCODE = '22008';
    END IF;

    FOR i IN 0 .. jsonb_array_length(p_pii) - 1 LOOP
        p := p_pii -> i; path := p ->> 'path'; value := p ->> 'value'; salt := decode(p ->> 'salt', 'hex');
        -- A personal value that the event does not commit to could be swapped later.
        IF e #> string_to_array(path, '.') IS DISTINCT FROM jsonb_build_object('ref', 'pii:' || path,
                'c', 'sha256:' || encode(sha256(salt || convert_to(value, 'UTF8')), 'hex')) THEN
            RAISE EXCEPTION 'audit.append: the event does not commit to its value %', path USING ERRCODE = '22023';
        END IF;
        paths := paths || path; texts := texts || value; salts := salts || salt;
    END LOOP;
    IF p_pii <> '[]' THEN
        c := guard.conceal_all(texts, salts);
        actor := c.tokens[array_position(paths, 'actor.email')];
        ip := c.tokens[array_position(paths, 'source.ip')];
    END IF;
    IF jsonb_typeof(e -> 'targets') = 'array' THEN
        FOR i IN 0 .. jsonb_array_length(e -> 'targets') - 1 LOOP
            IF e #>> ARRAY['targets', i::text, 'id'] IS NOT NULL THEN targets := targets || (e #>> ARRAY['targets', i::text, 'id']); END IF;
        END LOOP;
    END IF;

    INSERT INTO audit.event (id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome,
                             actor_type, actor_id, target_ids, actor_blind, ip_blind)
    VALUES (p_id, keep, at, session_user, inet_client_addr(), p_bytes, (e ->> 'workspace_id')::uuid,
            e ->> 'action', coalesce(e ->> 'phase', 'result'), coalesce(e #>> '{outcome,result}', 'success'),
            e #>> '{actor,type}', coalesce(e #>> '{actor,id}', ''), targets, actor, ip)
    ON CONFLICT (retention, id) DO NOTHING;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM audit.event v WHERE v.retention = keep AND v.id = p_id AND v.bytes = p_bytes) THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    INSERT INTO audit.unsequenced (id, retention, recorded_at) VALUES (p_id, keep, at);
    IF EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = p_id) THEN
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    IF p_pii <> '[]' THEN
        INSERT INTO audit.pii (event_id, path, sealed, blind) SELECT p_id, u.* FROM unnest(paths, c.sealed, c.tokens) u ON CONFLICT DO NOTHING;
    END IF;
END $$;
-- +goose StatementEnd

-- As before, but what waits is always read first, in the order of its key, and
-- each event by its own. The planner would else now and then read all events.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.sequence(p_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET enable_seqscan = off AS $$
DECLARE n integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7238191, 1) THEN RETURN -1; END IF;
    -- A statement of its own: its snapshot must be younger than the lock, or it
    -- would not see the last leaves of the one who held the lock before.
    WITH picked AS (
        SELECT u.id, u.retention, e.recorded_at, e.bytes
        FROM audit.unsequenced u CROSS JOIN LATERAL (
            SELECT v.recorded_at, v.bytes FROM audit.event v WHERE v.retention = u.retention AND v.id = u.id OFFSET 0) e
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

RESET ROLE;

SET LOCAL ROLE mailward_guard;

-- Rows of append-only tables that the server has counted as changed, or as deleted
-- where nothing ever is: the guards were down for a moment, whatever stands there
-- now. Deleted events are not among them: two tries at the same event count as one.
-- A crash of the server sets the counters back.
-- +goose StatementBegin
CREATE FUNCTION guard.counter_findings() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('the server has counted %s changed and %s deleted rows in audit.%s, which is append-only', n.upd, n.del, c.relname)
    FROM pg_class c CROSS JOIN LATERAL (SELECT pg_stat_get_tuples_updated(c.oid) AS upd,
        CASE WHEN c.relname IN ('leaf', 'node') THEN pg_stat_get_tuples_deleted(c.oid) ELSE 0 END AS del) n
    WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind = 'r' AND n.upd + n.del > 0
      AND (c.relispartition OR c.relname IN ('leaf', 'node', 'origin', 'seal_key', 'checkpoint', 'anchor', 'purge', 'tamper_attempt', 'tamper_spare'))
    ORDER BY c.relname
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION guard.counter_findings() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.counter_findings() TO mailward_app;

RESET ROLE;

DROP TRIGGER mailward_only_conceal ON guard.subject;
SELECT guard.add_trigger('guard.subject', 'mailward_only_conceal', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''guard.conceal_all(text[],bytea[])'')');
DROP FUNCTION guard.conceal(text, bytea);

SELECT guard.seal();
