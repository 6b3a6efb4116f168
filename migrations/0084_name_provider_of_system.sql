-- +goose Up
-- Accounts, links and roles that come by the word of a provider name it, like the
-- session that they are for.

SELECT audit.maintenance('0084', 'row changes by the word of a provider of single sign-on name it');

SET LOCAL ROLE mailward_guard;

-- Who acts in this transaction: see 0004.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.actor() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE c jsonb; who jsonb; kind text; none jsonb := jsonb_build_object('method', 'none');
BEGIN
    IF session_user <> 'mailward_app' THEN
        RETURN jsonb_build_object('actor', jsonb_build_object('type', 'database', 'id', '', 'display', session_user,
            'roles', jsonb_build_array(session_user, guard.acting_role())), 'auth', jsonb_build_object('method', 'database'));
    END IF;
    c := guard.claimed('mailward.claim');
    kind := c ->> 'type';
    IF kind = 'system' AND coalesce(c ->> 'job', '') <> '' THEN
        RETURN jsonb_build_object('auth', none || jsonb_strip_nulls(jsonb_build_object('provider', c ->> 'provider', 'protocol', c ->> 'protocol', 'issuer', c ->> 'issuer')),
            'actor', jsonb_build_object('type', kind, 'display', 'System', 'job', jsonb_build_object('name', c ->> 'job', 'trigger', c ->> 'cause')));
    ELSIF kind = 'operator' AND coalesce(c ->> 'name', '') <> '' THEN
        RETURN jsonb_build_object('auth', jsonb_build_object('method', 'os'), 'actor', jsonb_build_object('type', kind, 'display', c ->> 'name'));
    ELSIF kind IN ('service', 'recipient', 'anonymous') THEN
        RETURN jsonb_build_object('auth', none, 'actor', jsonb_build_object('type', kind, 'display', coalesce(c ->> 'name', '')));
    ELSIF kind = 'user' THEN
        who := guard.person(c);
    END IF;
    RETURN coalesce(who, jsonb_build_object('auth', none, 'actor', jsonb_build_object('type', 'unknown')));
END $$;
-- +goose StatementEnd

RESET ROLE;

SELECT guard.seal();
