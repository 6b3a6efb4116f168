-- +goose Up
-- audit.append does the same with fewer steps.

SELECT audit.maintenance('0078', 'audit.append takes fewer steps');

SET LOCAL ROLE mailward_guard;

-- What guard.only_through does for audit.append, which fires it for three tables with
-- each event. It runs with the caller's search path (setting one costs more than
-- the rest of it): every name in it has its schema.
-- +goose StatementBegin
CREATE FUNCTION guard.only_append() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE stack pg_catalog.text;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF pg_catalog.strpos(stack, ' audit.append(uuid,bytea,jsonb) ') OPERATOR(pg_catalog.>) 0 THEN RETURN NULL; END IF;
    -- A language may put the function at the end of a line.
    IF pg_catalog.strpos(pg_catalog.replace(stack, E'\n', ' '), ' audit.append(uuid,bytea,jsonb) ') OPERATOR(pg_catalog.>) 0 THEN RETURN NULL; END IF;
    PERFORM guard.trace(TG_OP, pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RAISE EXCEPTION '%.% is written by audit.append(uuid,bytea,jsonb) alone: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END $$;
-- +goose StatementEnd

-- Where guard.conceal_all has not found all: says what is wrong with a value, and
-- makes the subjects that are new.
-- +goose StatementBegin
CREATE FUNCTION guard.meet_subjects(p_pii jsonb, p_event jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE p jsonb; path text; plain bytea; h bytea;
BEGIN
    FOR p IN SELECT jsonb_array_elements(p_pii) LOOP
        path := p ->> 'path'; plain := decode(p ->> 'salt', 'hex') || convert_to(p ->> 'value', 'UTF8');
        -- A personal value that the event does not commit to could be swapped later.
        IF plain IS NULL OR length(p ->> 'salt') <> 32 OR p_event #> string_to_array(path, '.') IS DISTINCT FROM
            jsonb_build_object('ref', 'pii:' || path, 'c', 'sha256:' || encode(sha256(plain), 'hex')) THEN
            RAISE EXCEPTION 'audit.append: the event does not commit to its value % with a salt of 16 bytes', path USING ERRCODE = '22023';
        END IF;
        h := guard.keyed_hash('blind', lower(p ->> 'value'));
        IF NOT EXISTS (SELECT FROM guard.subject x WHERE x.hash = h) THEN
            INSERT INTO guard.subject (token, hash, key) VALUES (guard.random32(), h, guard.random32());
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.meet_subjects(jsonb, jsonb), guard.only_append() FROM PUBLIC;

-- Checks that an event commits to its personal values ([{path, value, salt (hex)}]),
-- encrypts each with its salt (AES-256-CBC under a random IV each; the commitment is
-- what shows a change), and gives the tokens of their subjects: all by one statement,
-- but for what is new or wrong.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.conceal_all(p_pii jsonb, p_event jsonb, OUT paths text[], OUT sealed bytea[], OUT tokens bytea[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE n integer := jsonb_array_length(p_pii);
BEGIN
    FOR try IN 1 .. 2 LOOP
        SELECT array_agg(v.path), array_agg(v.iv || guard.encrypt_iv(v.plain, s.key, v.iv, 'aes-cbc/pad:pkcs')), array_agg(s.token) INTO paths, sealed, tokens
        FROM guard.secret b
        CROSS JOIN (SELECT r.path, r.value, r.salt, decode(r.salt, 'hex') || convert_to(r.value, 'UTF8') AS plain, guard.gen_random_bytes(16) AS iv
            FROM jsonb_to_recordset(p_pii) AS r(path text, value text, salt text)) v
        CROSS JOIN LATERAL (SELECT x.token, x.key FROM guard.subject x
            WHERE x.hash = sha256(b.key || sha256(b.key || convert_to(lower(v.value), 'UTF8'))) ORDER BY x.made_at, x.token LIMIT 1) s
        -- A path with quotes in it reads otherwise there: the second time all have been
        -- looked at.
        WHERE b.name = 'blind' AND (try = 2 OR length(v.salt) = 32
          AND p_event #>> string_to_array(v.path, '.') = '{"c": "sha256:' || encode(sha256(v.plain), 'hex') || '", "ref": "pii:' || v.path || '"}');
        EXIT WHEN try = 2 OR array_length(paths, 1) = n;
        PERFORM guard.meet_subjects(p_pii, p_event);
    END LOOP;
END $$;
-- +goose StatementEnd

RESET ROLE;

DROP TRIGGER mailward_only_through ON audit.event;
DROP TRIGGER mailward_only_through ON audit.pii;
DROP TRIGGER mailward_only_append ON audit.unsequenced;
SELECT guard.add_trigger('audit.event', 'mailward_only_through', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_append()'),
       guard.add_trigger('audit.pii', 'mailward_only_through', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_append()'),
       guard.add_trigger('audit.unsequenced', 'mailward_only_append', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_append()');

SET LOCAL ROLE mailward_owner;

-- audit.append alone writes here, with values that are sealed: the salt of a row from
-- before has been checked, and the check was read anew for each event.
ALTER TABLE audit.pii DROP CONSTRAINT pii_salt_check;

-- Adds one event: see 0003 for what it takes, 0038 for how an id is kept to one
-- class, and 0042 for the columns. What is read of the event, and how often, is what
-- it costs: each call of a function in here is prepared anew in each transaction.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.append(p_id uuid, p_bytes bytea, p_pii jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    e     jsonb := convert_from(p_bytes, 'UTF8')::jsonb;
    id    text  := p_id;
    act   text  := e ->> 'action';
    who   text  := e #>> '{actor,id}';
    kind  text  := e #>> '{actor,type}';
    keep  text  := e #>> '{class,retention}';
    at    timestamptz := clock_timestamp();
    first text  := e #>> '{targets,0,id}';
    auth  jsonb := e -> 'auth';
    ids   text[];
    more  jsonb;
    links text[];
    old   bytea;
    c     record;
    actor bytea;
    ip    bytea;
BEGIN
    IF (e ->> 'id' = id AND act <> '' AND kind <> '' AND keep IS NOT NULL) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit.append: the event lacks its id, action, actor or retention class' USING ERRCODE = '22023';
    END IF;
    IF id NOT LIKE '______________7%' OR abs(('x' || translate(left(id, 13), '-', ''))::bit(48)::bigint - date_part('epoch', at) * 1000) > 300000 THEN
        SELECT v.bytes INTO old FROM audit.event v WHERE v.id = p_id LIMIT 1;
        IF old = p_bytes THEN RETURN; END IF;
        IF FOUND THEN
            RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
        END IF;
        RAISE EXCEPTION 'audit.append: the event''s id is no UUIDv7 within 5 minutes of the database''s clock' USING ERRCODE = '22008';
    END IF;

    IF p_pii <> '[]' THEN
        c := guard.conceal_all(p_pii, e);
        actor := c.tokens[array_position(c.paths, 'actor.email')];
        ip := c.tokens[array_position(c.paths, 'source.ip')];
    END IF;
    ids := CASE WHEN first IS NULL THEN '{}' ELSE ARRAY[first] END;
    IF e -> 'targets' -> 1 IS NOT NULL THEN
        FOR i IN 1 .. jsonb_array_length(e -> 'targets') - 1 LOOP ids := ids || (e -> 'targets' -> i ->> 'id'); END LOOP;
        ids := array_remove(ids, NULL);
    END IF;
    links := array_remove(array_remove(ids || ARRAY[id, who, auth ->> 'session_id', auth ->> 'credential_id', e #>> '{request,id}'], NULL), '');
    -- Of these most events have none.
    more := jsonb_strip_nulls(e -> 'correlation');
    IF more <> '{}' THEN
        links := array_remove(array_remove(links || ARRAY[more ->> 'trace_id', more ->> 'incident_id', more ->> 'alert_id', more ->> 'mail_id', more ->> 'item_id', more ->> 'causation_id'], NULL), '');
    END IF;
    more := jsonb_strip_nulls(jsonb_build_object('application', e #> '{application,name}', 'route', e #> '{request,path}', 'method', auth -> 'method', 'provider', auth -> 'provider'));
    IF jsonb_typeof(e -> 'approval') = 'object' THEN
        more := more || jsonb_build_object('approval', CASE WHEN e #> '{approval,approvers,0}' IS NULL THEN 'none' ELSE 'given' END);
    END IF;

    -- A conflict can be one of the key only. Were it named, the server would look
    -- it up for each index of the partition.
    INSERT INTO audit.event (id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome,
        actor_type, actor_id, target_ids, actor_blind, ip_blind, facts, links)
    VALUES (p_id, keep, at, session_user, inet_client_addr(), p_bytes, (e ->> 'workspace_id')::uuid, act, coalesce(e ->> 'phase', 'result'), coalesce(e #>> '{outcome,result}', 'success'),
        kind, coalesce(who, ''), ids, actor, ip, more, links)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM audit.event v WHERE v.retention = keep AND v.id = p_id AND v.bytes = p_bytes) THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    INSERT INTO audit.unsequenced (id, retention, recorded_at, digest) VALUES (p_id, keep, at, sha256(p_bytes));
    -- Leaves are looked at by a statement (and so a snapshot) that is younger.
    IF p_pii <> '[]' THEN
        INSERT INTO audit.pii (event_id, path, sealed, blind) SELECT p_id, u.* FROM unnest(c.paths, c.sealed, c.tokens) u
        WHERE NOT EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = p_id);
        IF FOUND THEN RETURN; END IF;
    ELSIF NOT EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = p_id) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
END $$;
-- +goose StatementEnd

RESET ROLE;

SELECT guard.seal();
