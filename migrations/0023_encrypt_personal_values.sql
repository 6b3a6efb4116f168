-- +goose Up
-- Personal values of events are encrypted, each person's (or address's) under a
-- key of their own. Erasing somebody removes the key, so that copies of the
-- events' tables are of no use for it either; every proof stays as it was.

SELECT audit.maintenance('0023', 'personal values of the audit are encrypted under keys that can be erased');

CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA guard;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA guard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.encrypt_iv(bytea, bytea, bytea, text), guard.decrypt_iv(bytea, bytea, bytea, text) TO mailward_guard;

SET LOCAL ROLE mailward_guard;

-- Who or what a personal value is about. token is random and stands in the
-- events' search columns; only this table ties it to a value. Two writers that
-- meet a value for the first time at once make two rows: nobody waits.
CREATE TABLE guard.subject (
    token   bytea       PRIMARY KEY CHECK (octet_length(token) = 32),
    hash    bytea       NOT NULL,                        -- keyed hash of the value
    key     bytea       NOT NULL CHECK (octet_length(key) = 32),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX subject_hash_idx ON guard.subject (hash);

-- +goose StatementBegin
CREATE FUNCTION guard.random32() RETURNS bytea LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
$$;
-- +goose StatementEnd

-- Encrypts one value with its salt (AES-256-CBC under a random IV; the event's
-- commitment is what shows a change), and gives the token of its subject.
-- +goose StatementBegin
CREATE FUNCTION guard.conceal(p_value text, p_salt bytea, OUT token bytea, OUT sealed bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto AS $$
DECLARE h bytea := guard.keyed_hash('blind', lower(p_value)); k bytea; iv bytea := uuid_send(gen_random_uuid());
BEGIN
    IF octet_length(p_salt) <> 16 THEN
        RAISE EXCEPTION 'guard.conceal: a salt has 16 bytes' USING ERRCODE = '22023';
    END IF;
    SELECT s.token, s.key INTO token, k FROM guard.subject s WHERE s.hash = h ORDER BY s.made_at, s.token LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO guard.subject (token, hash, key) VALUES (guard.random32(), h, guard.random32()) RETURNING subject.token, subject.key INTO token, k;
    END IF;
    sealed := iv || guard.encrypt_iv(p_salt || convert_to(p_value, 'UTF8'), k, iv, 'aes-cbc/pad:pkcs');
END $$;
-- +goose StatementEnd

-- All tokens of a value. Values from before this migration stand under their hash.
-- +goose StatementBegin
CREATE FUNCTION guard.tokens(p_value text) RETURNS bytea[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(s.token ORDER BY s.made_at, s.token) || guard.keyed_hash('blind', lower(p_value))
    FROM guard.subject s WHERE s.hash = guard.keyed_hash('blind', lower(p_value))
$$;
-- +goose StatementEnd

-- The plain text, or null where it does not decrypt: one value that somebody has
-- changed must not keep others from being read.
-- +goose StatementBegin
CREATE FUNCTION guard.decrypted(sealed bytea, key bytea) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE plain bytea;
BEGIN
    plain := guard.decrypt_iv(substr(sealed, 17), key, substr(sealed, 1, 16), 'aes-cbc/pad:pkcs');
    PERFORM convert_from(substr(plain, 17), 'UTF8');
    RETURN plain;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
-- +goose StatementEnd

RESET ROLE;

DROP TRIGGER mailward_no_change ON audit.pii;
DROP TRIGGER mailward_no_row_change ON audit.pii;

SET LOCAL ROLE mailward_owner;

ALTER TABLE audit.pii ALTER COLUMN value DROP NOT NULL, ALTER COLUMN salt DROP NOT NULL, -- rows from before stay as they are
    ADD COLUMN sealed bytea, ADD CONSTRAINT pii_one_form_check CHECK (num_nonnulls(value, salt) = CASE WHEN sealed IS NULL THEN 2 ELSE 0 END);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.append(p_id uuid, p_bytes bytea, p_pii jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto AS $$
DECLARE
    e    jsonb := convert_from(p_bytes, 'UTF8')::jsonb;
    keep text  := e #>> '{class,retention}';
    at   timestamptz := clock_timestamp();
    old  bytea;
    p    record;
    c    record;
    actor bytea;
    ip   bytea;
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

    FOR p IN SELECT x ->> 'path' AS path, x ->> 'value' AS value, decode(x ->> 'salt', 'hex') AS salt FROM jsonb_array_elements(p_pii) x LOOP
        -- A personal value that the event does not commit to could be swapped later.
        IF e #> string_to_array(p.path, '.') IS DISTINCT FROM jsonb_build_object('ref', 'pii:' || p.path,
                'c', 'sha256:' || encode(sha256(p.salt || convert_to(p.value, 'UTF8')), 'hex')) THEN
            RAISE EXCEPTION 'audit.append: the event does not commit to its value %', p.path USING ERRCODE = '22023';
        END IF;
        SELECT * INTO c FROM guard.conceal(p.value, p.salt);
        IF p.path = 'actor.email' THEN actor := c.token; ELSIF p.path = 'source.ip' THEN ip := c.token; END IF;
        -- There already: the first try was under way when we looked.
        INSERT INTO audit.pii (event_id, path, sealed, blind) VALUES (p_id, p.path, c.sealed, c.token) ON CONFLICT DO NOTHING;
    END LOOP;

    INSERT INTO audit.event (id, retention, recorded_at, db_role, client_addr, bytes, workspace_id, action, phase, outcome,
                             actor_type, actor_id, target_ids, actor_blind, ip_blind)
    VALUES (p_id, keep, at, session_user, inet_client_addr(), p_bytes, (e ->> 'workspace_id')::uuid,
            e ->> 'action', coalesce(e ->> 'phase', 'result'), coalesce(e #>> '{outcome,result}', 'success'),
            e #>> '{actor,type}', coalesce(e #>> '{actor,id}', ''),
            ARRAY(SELECT t ->> 'id' FROM jsonb_array_elements(CASE jsonb_typeof(e -> 'targets') WHEN 'array' THEN e -> 'targets' ELSE '[]' END) t WHERE t ->> 'id' IS NOT NULL),
            actor, ip)
    ON CONFLICT (retention, id) DO NOTHING;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM audit.event v WHERE v.retention = keep AND v.id = p_id AND v.bytes = p_bytes) THEN RETURN; END IF;
        RAISE EXCEPTION 'audit.append: another event has the id %', p_id USING ERRCODE = '23505';
    END IF;
    INSERT INTO audit.unsequenced (id, retention, recorded_at) VALUES (p_id, keep, at);
END $$;
-- +goose StatementEnd

-- The token of a value that somebody looks for; of two the older one.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.blind(value text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (guard.tokens(value))[1]
$$;
-- +goose StatementEnd

-- Removes personal values, of whom (tokens) or of which events.
-- +goose StatementBegin
CREATE FUNCTION audit.remove_values(p_tokens bytea[], p_events uuid[]) RETURNS bigint
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint;
BEGIN
    DELETE FROM audit.pii p WHERE p.blind = ANY (p_tokens) OR p.event_id = ANY (p_events);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.tokens(p_value text) RETURNS bytea[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT guard.tokens(p_value)
$$;
-- +goose StatementEnd

-- Erases a value everywhere in the audit, with its key, and puts that on record
-- in the same transaction: without the value, but with what it stood under.
-- Returns how many values went.
-- +goose StatementBegin
CREATE FUNCTION audit.erase(p_value text, p_basis text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE tokens bytea[] := guard.tokens(p_value); n bigint;
BEGIN
    IF coalesce(p_value, '') = '' OR coalesce(p_basis, '') = '' THEN
        RAISE EXCEPTION 'audit.erase needs a value and a legal basis' USING ERRCODE = '22023';
    END IF;
    n := audit.remove_values(tokens, '{}');
    PERFORM guard.forget(tokens);
    PERFORM guard.record(jsonb_build_object('action', 'audit.pii.erased', 'retention', 'sec-3y', 'workspace_id', NULL, 'severity', 'warning',
        'targets', (SELECT jsonb_agg(jsonb_build_object('type', 'subject', 'id', encode(t, 'hex'), 'label', NULL)) FROM unnest(tokens) t),
        'change', jsonb_build_object('before', jsonb_build_object('values', n), 'after', jsonb_build_object('values', 0), 'diff', '["values"]'::jsonb,
            'before_sha256', NULL, 'after_sha256', NULL, 'object_version', NULL),
        'reason', jsonb_build_object('code', p_basis)));
    RETURN n;
END $$;
-- +goose StatementEnd

RESET ROLE;
SET LOCAL ROLE mailward_guard;

-- The personal values of some events, with the salts of their commitments. One
-- that does not decrypt is there with an empty value and salt.
-- +goose StatementBegin
CREATE FUNCTION guard.reveal(p_events uuid[]) RETURNS TABLE (event_id uuid, path text, value text, salt bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.event_id, p.path, coalesce(p.value, convert_from(substr(d.plain, 17), 'UTF8'), ''), coalesce(p.salt, substr(d.plain, 1, 16), '')
    FROM audit.pii p LEFT JOIN guard.subject s ON s.token = p.blind
    CROSS JOIN LATERAL (SELECT CASE WHEN p.sealed IS NOT NULL THEN guard.decrypted(p.sealed, s.key) END AS plain) d
    WHERE p.event_id = ANY (p_events) AND (p.sealed IS NULL OR s.token IS NOT NULL)
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION guard.forget(p_tokens bytea[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM guard.subject s WHERE s.token = ANY (p_tokens);
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION guard.random32(), guard.conceal(text, bytea), guard.tokens(text), guard.decrypted(bytea, bytea), guard.reveal(uuid[]), guard.forget(bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.conceal(text, bytea), guard.tokens(text), guard.forget(bytea[]), guard.record(jsonb) TO mailward_owner;
GRANT EXECUTE ON FUNCTION guard.reveal(uuid[]) TO mailward_app;

RESET ROLE;

REVOKE ALL ON FUNCTION audit.remove_values(bytea[], uuid[]), audit.tokens(text), audit.erase(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.tokens(text), audit.erase(text, text) TO mailward_app;

SELECT guard.add_trigger('audit.pii', 'mailward_no_change', 'UPDATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('audit.pii', 'mailward_no_row_change', 'UPDATE ON %t FOR EACH ROW EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('audit.pii', 'mailward_only_remove', 'DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''audit.remove_values(bytea[],uuid[])'')'),
       guard.add_trigger('guard.subject', 'mailward_only_conceal', 'INSERT ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''guard.conceal(text,bytea)'')'),
       guard.add_trigger('guard.subject', 'mailward_only_forget', 'DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_through(''guard.forget(bytea[])'')'),
       guard.add_trigger('guard.subject', 'mailward_no_change', 'UPDATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()'),
       guard.add_trigger('guard.subject', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');

SELECT guard.seal();
