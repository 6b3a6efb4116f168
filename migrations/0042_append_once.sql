-- +goose Up
-- audit.append reads an event's bytes once, for all that it is searched by, and
-- hands their hash on, so that the sequencer reads no event.

SELECT audit.maintenance('0042', 'audit.append reads the bytes of an event once');

SET LOCAL ROLE mailward_guard;

-- The oldest subject of a value comes out of the index, without sorting.
CREATE INDEX subject_oldest_idx ON guard.subject (hash, made_at, token);
DROP INDEX guard.subject_hash_idx;

-- Checks that an event commits to its personal values ([{path, value, salt (hex)}]),
-- encrypts each with its salt (AES-256-CBC under a random IV each; the commitment is
-- what shows a change), and gives the tokens of their subjects.
-- +goose StatementBegin
CREATE FUNCTION guard.conceal_all(p_pii jsonb, p_event jsonb, OUT paths text[], OUT sealed bytea[], OUT tokens bytea[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE n integer := jsonb_array_length(p_pii); random bytea := guard.gen_random_bytes(16 * n); blind bytea; p jsonb; plain bytea; owner bytea; secret bytea;
BEGIN
    SELECT x.key INTO blind FROM guard.secret x WHERE x.name = 'blind';
    FOR i IN 1 .. n LOOP
        p := p_pii -> (i - 1); paths[i] := p ->> 'path'; plain := decode(p ->> 'salt', 'hex') || convert_to(p ->> 'value', 'UTF8');
        -- A personal value that the event does not commit to could be swapped later.
        IF plain IS NULL OR length(p ->> 'salt') <> 32 OR p_event #> string_to_array(paths[i], '.') IS DISTINCT FROM
            jsonb_build_object('ref', 'pii:' || paths[i], 'c', 'sha256:' || encode(sha256(plain), 'hex')) THEN
            RAISE EXCEPTION 'audit.append: the event does not commit to its value % with a salt of 16 bytes', paths[i] USING ERRCODE = '22023';
        END IF;
        SELECT x.token, x.key INTO owner, secret FROM guard.subject x
        WHERE x.hash = sha256(blind || sha256(blind || convert_to(lower(p ->> 'value'), 'UTF8'))) ORDER BY x.made_at, x.token LIMIT 1;
        IF NOT FOUND THEN
            INSERT INTO guard.subject (token, hash, key)
            VALUES (guard.random32(), sha256(blind || sha256(blind || convert_to(lower(p ->> 'value'), 'UTF8'))), guard.random32())
            RETURNING subject.token, subject.key INTO owner, secret;
        END IF;
        tokens[i] := owner;
        sealed[i] := substr(random, 16 * i - 15, 16) || guard.encrypt_iv(plain, secret, substr(random, 16 * i - 15, 16), 'aes-cbc/pad:pkcs');
    END LOOP;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION guard.conceal_all(jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.conceal_all(jsonb, jsonb) TO mailward_owner;

-- As before. The statement that is under way stands in the stack: what is looked
-- for is looked for in it as it is first, and only then where a language puts the
-- function at the end of a line.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.only_through() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE stack text;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF position(' ' || TG_ARGV[0] || ' ' IN stack) > 0 THEN RETURN NULL; END IF;
    IF position(' ' || TG_ARGV[0] || ' ' IN replace(stack, E'\n', ' ')) > 0 THEN RETURN NULL; END IF;
    PERFORM guard.trace(TG_OP, format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RAISE EXCEPTION '%.% is written by % alone: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0], TG_OP USING ERRCODE = '42501';
END $$;
-- +goose StatementEnd

RESET ROLE;
GRANT EXECUTE ON FUNCTION guard.gen_random_bytes(integer) TO mailward_guard;
DROP TRIGGER mailward_only_conceal ON guard.subject;
SELECT guard.add_trigger('guard.subject', 'mailward_only_conceal', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''guard.conceal_all(jsonb,jsonb)'')');

SET LOCAL ROLE mailward_owner;

-- Only audit.append writes here, and what it writes has one of the two forms: the
-- check was read anew for each event.
ALTER TABLE audit.pii DROP CONSTRAINT pii_one_form_check;

-- What a search needs of an event beside its own columns: see 0033. Bytes that are
-- no JSON give nothing. These two say what the columns have to say: `audit verify`
-- compares them.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.links(p_bytes bytea) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e jsonb := convert_from(p_bytes, 'UTF8')::jsonb; t jsonb := e -> 'targets'; ids text[] := '{}';
BEGIN
    IF jsonb_typeof(t) = 'array' THEN
        FOR i IN 0 .. jsonb_array_length(t) - 1 LOOP ids := ids || (t -> i ->> 'id'); END LOOP;
    END IF;
    RETURN array_remove(array_remove(ids || ARRAY[e ->> 'id', e #>> '{actor,id}', e #>> '{auth,session_id}', e #>> '{auth,credential_id}', e #>> '{request,id}',
        e #>> '{correlation,trace_id}', e #>> '{correlation,incident_id}', e #>> '{correlation,alert_id}', e #>> '{correlation,mail_id}',
        e #>> '{correlation,item_id}', e #>> '{correlation,causation_id}'], NULL), '');
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END $$;
-- +goose StatementEnd

-- The two columns were generated, which had the bytes read twice more for each
-- event. They are now written by audit.append as the others are. PostgreSQL 15
-- cannot turn such a column of partitions into an ordinary one, so they are made
-- anew, and filled by a change of type: no row is updated.
ALTER TABLE audit.event DROP COLUMN facts, DROP COLUMN links;
ALTER TABLE audit.event ADD COLUMN facts jsonb, ADD COLUMN links text[];
ALTER TABLE audit.event ALTER COLUMN facts TYPE jsonb USING audit.facts(bytes), ALTER COLUMN links TYPE text[] USING audit.links(bytes);

CREATE INDEX event_application_idx ON audit.event ((facts ->> 'application'), id DESC);
CREATE INDEX event_route_idx ON audit.event ((facts ->> 'route'), id DESC);
CREATE INDEX event_method_idx ON audit.event ((facts ->> 'method'), id DESC);
CREATE INDEX event_provider_idx ON audit.event ((facts ->> 'provider'), id DESC);
CREATE INDEX event_approval_idx ON audit.event ((facts ->> 'approval'), id DESC) WHERE facts ->> 'approval' IS NOT NULL;
CREATE INDEX event_links_idx ON audit.event USING gin (links);

-- The hash of the event's bytes, from which its leaf is made. A row from
-- before has none.
ALTER TABLE audit.unsequenced ADD COLUMN digest bytea;

-- Adds one event: see 0003 for what it takes, and 0038 for how an id is kept to
-- one class.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.append(p_id uuid, p_bytes bytea, p_pii jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    e     jsonb := convert_from(p_bytes, 'UTF8')::jsonb;
    keep  text  := e #>> '{class,retention}';
    at    timestamptz := clock_timestamp();
    t     jsonb := e -> 'targets';
    ids   text[];
    more  jsonb;
    links text[];
    old   bytea;
    c     record;
    actor bytea;
    ip    bytea;
BEGIN
    IF (e ->> 'id') IS DISTINCT FROM p_id::text OR coalesce(e ->> 'action', '') = '' OR coalesce(e #>> '{actor,type}', '') = '' OR keep IS NULL THEN
        RAISE EXCEPTION 'audit.append: the event lacks its id, action, actor or retention class' USING ERRCODE = '22023';
    END IF;
    IF substr(p_id::text, 15, 1) <> '7' OR
        abs(('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint - extract(epoch FROM at) * 1000) > 300000 THEN
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
    ids := ARRAY[t #>> '{0,id}'];
    IF jsonb_typeof(t) = 'array' THEN
        FOR i IN 1 .. jsonb_array_length(t) - 1 LOOP ids := ids || (t -> i ->> 'id'); END LOOP;
    END IF;
    ids := array_remove(ids, NULL);
    more := jsonb_strip_nulls(jsonb_build_object(
        'application', e #> '{application,name}', 'route', e #> '{request,path}', 'method', e #> '{auth,method}', 'provider', e #> '{auth,provider}',
        'approval', CASE WHEN jsonb_typeof(e -> 'approval') = 'object' THEN CASE WHEN e #> '{approval,approvers,0}' IS NULL THEN 'none' ELSE 'given' END END));
    links := array_remove(array_remove(ids || ARRAY[e ->> 'id', e #>> '{actor,id}', e #>> '{auth,session_id}', e #>> '{auth,credential_id}', e #>> '{request,id}',
        e #>> '{correlation,trace_id}', e #>> '{correlation,incident_id}', e #>> '{correlation,alert_id}', e #>> '{correlation,mail_id}',
        e #>> '{correlation,item_id}', e #>> '{correlation,causation_id}'], NULL), '');

    -- A conflict can be one of the key only. Were it named, the server would look
    -- it up for each index of the partition.
    INSERT INTO audit.event (id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome,
        actor_type, actor_id, target_ids, actor_blind, ip_blind, facts, links)
    VALUES (p_id, keep, at, session_user, inet_client_addr(), p_bytes, (e ->> 'workspace_id')::uuid, e ->> 'action', coalesce(e ->> 'phase', 'result'), coalesce(e #>> '{outcome,result}', 'success'),
        e #>> '{actor,type}', coalesce(e #>> '{actor,id}', ''), ids, actor, ip, more, links)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM audit.event v WHERE v.retention = keep AND v.id = p_id AND v.bytes = p_bytes) THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    INSERT INTO audit.unsequenced (id, retention, recorded_at, digest) VALUES (p_id, keep, at, sha256(p_bytes));
    IF EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = p_id) THEN
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    IF p_pii <> '[]' THEN
        INSERT INTO audit.pii (event_id, path, sealed, blind) SELECT p_id, u.* FROM unnest(c.paths, c.sealed, c.tokens) u;
    END IF;
END $$;
-- +goose StatementEnd

-- Numbers up to p_max waiting events, in the order of their ids, and makes
-- their leaves (docs/security.md gives the bytes that a leaf covers) from the
-- hash that audit.append took; a row from before the hashes is looked up, and waits
-- where its event is gone. Only one caller works at a time; the others get -1.
-- Returns how many it numbered.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.sequence(p_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET enable_seqscan = off AS $$
DECLARE n integer;
BEGIN
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

DROP FUNCTION guard.conceal_all(text[], bytea[]);

-- A partition keeps the bytes of an event in its row, which is a little over the
-- 2 kB from where PostgreSQL would try to make it smaller: it seldom can, and each
-- event then cost a row in a second table. The one function that makes partitions
-- says so for those to come.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.add_partition(space text, parent text, part text, bounds text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass(format('%I.%I', space, part)) IS NOT NULL THEN RETURN 0; END IF;
    IF NOT guard.in_maintenance() THEN
        INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), 'partitions', 'partitions of the coming days');
    END IF;
    EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I.%I %s', space, part, space, parent, bounds);
    EXECUTE format('ALTER TABLE %I.%I OWNER TO mailward_owner', space, part);
    IF space = 'audit' THEN
        -- One that is partitioned itself has no storage of its own.
        IF bounds !~ 'PARTITION BY' THEN EXECUTE format('ALTER TABLE %I.%I SET (toast_tuple_target = 8160)', space, part); END IF;
        PERFORM guard.protect(format('%I.%I', space, part)::regclass, 'audit.append(uuid,bytea,jsonb)');
    END IF;
    RETURN 1;
EXCEPTION WHEN check_violation THEN
    -- The default partition holds rows of that time already: they stay there.
    RAISE WARNING 'partition %.% not made: %', space, part, SQLERRM;
    RETURN 0;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$ DECLARE r regclass; BEGIN
    FOR r IN SELECT relid FROM pg_partition_tree('audit.event') WHERE isleaf LOOP EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = 8160)', r); END LOOP;
END $$;
-- +goose StatementEnd

SELECT guard.seal();
