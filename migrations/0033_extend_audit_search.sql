-- +goose Up
-- What the audit can be searched by: application, route, way of signing in,
-- approval, outcome, address, and every id that an event names.

SELECT audit.maintenance('0033', 'the audit gets columns and indexes to search by');

SET LOCAL ROLE mailward_owner;

-- What a search needs of an event beside its own columns, read from its bytes.
-- Bytes that are no JSON (only an attacker could have put them there) give
-- nothing; the check of the leaves finds them.
-- +goose StatementBegin
CREATE FUNCTION audit.facts(p_bytes bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e jsonb;
BEGIN
    e := convert_from(p_bytes, 'UTF8')::jsonb;
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'application', e #> '{application,name}', 'route', e #> '{request,path}',
        'method', e #> '{auth,method}', 'provider', e #> '{auth,provider}',
        'approval', CASE WHEN jsonb_typeof(e -> 'approval') = 'object' THEN
            CASE WHEN e #> '{approval,approvers,0}' IS NULL THEN 'none' ELSE 'given' END END));
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END $$;
-- +goose StatementEnd

-- All ids that an event names: its own, its actor, session, token and request,
-- what was acted on, the mail, item, incident, alert and cause. An array, since
-- the planner knows how often each element of one occurs.
-- +goose StatementBegin
CREATE FUNCTION audit.links(p_bytes bytea) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e jsonb; c jsonb; t jsonb;
BEGIN
    e := convert_from(p_bytes, 'UTF8')::jsonb;
    c := CASE jsonb_typeof(e -> 'correlation') WHEN 'object' THEN e -> 'correlation' ELSE '{}' END;
    t := CASE jsonb_typeof(e -> 'targets') WHEN 'array' THEN e -> 'targets' ELSE '[]' END;
    RETURN ARRAY(SELECT DISTINCT v FROM (
        SELECT x.value #>> '{}' AS v FROM jsonb_each(c) x
        UNION ALL SELECT x.value ->> 'id' FROM jsonb_array_elements(t) x
        UNION ALL SELECT unnest(ARRAY[e ->> 'id', e #>> '{actor,id}', e #>> '{auth,session_id}', e #>> '{auth,credential_id}', e #>> '{request,id}'])
    ) ids WHERE v <> '');
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END $$;
-- +goose StatementEnd

-- Generated, so that they always say what the bytes say, for old events too.
ALTER TABLE audit.event ADD COLUMN facts jsonb GENERATED ALWAYS AS (audit.facts(bytes)) STORED,
    ADD COLUMN links text[] GENERATED ALWAYS AS (audit.links(bytes)) STORED;

CREATE INDEX event_application_idx ON audit.event ((facts ->> 'application'), id DESC);
CREATE INDEX event_route_idx ON audit.event ((facts ->> 'route'), id DESC);
CREATE INDEX event_method_idx ON audit.event ((facts ->> 'method'), id DESC);
CREATE INDEX event_provider_idx ON audit.event ((facts ->> 'provider'), id DESC);
CREATE INDEX event_approval_idx ON audit.event ((facts ->> 'approval'), id DESC) WHERE facts ->> 'approval' IS NOT NULL;
CREATE INDEX event_links_idx ON audit.event USING gin (links);
-- In the order of equality, which the index for prefixes does not promise.
CREATE INDEX event_exact_action_idx ON audit.event (action, id DESC);
CREATE INDEX event_ip_blind_idx ON audit.event (ip_blind, id DESC) WHERE ip_blind IS NOT NULL;
CREATE INDEX event_outcome_idx ON audit.event (outcome, id DESC) WHERE outcome <> 'success';
CREATE INDEX event_actor_type_idx ON audit.event (actor_type, id DESC);
-- Acts without mere looking: what the page shows first.
CREATE INDEX event_act_idx ON audit.event (id DESC) WHERE action <> ALL ('{web.view,api.call}'::text[]);

RESET ROLE;

SELECT guard.seal();
