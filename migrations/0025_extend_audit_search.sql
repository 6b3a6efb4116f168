-- +goose Up
-- What the audit can be searched by: application, route, way of signing in,
-- approval, outcome, address, and every id that an event names.

SELECT audit.maintenance('0025', 'the audit gets columns and indexes to search by');

SET LOCAL ROLE mailward_owner;

-- What a search needs of an event beside its own columns, read from its bytes.
-- links are all ids that it names: session, token, request, mail, item,
-- incident, alert, cause, and what was acted on. Bytes that are no JSON (only an
-- attacker could have put them there) give nothing; the check of the leaves
-- finds them.
-- +goose StatementBegin
CREATE FUNCTION audit.facts(p_bytes bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e jsonb; c jsonb;
BEGIN
    e := convert_from(p_bytes, 'UTF8')::jsonb;
    c := e -> 'correlation';
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'application', e #> '{application,name}', 'route', e #> '{request,path}',
        'method', e #> '{auth,method}', 'provider', e #> '{auth,provider}',
        'approval', CASE WHEN jsonb_typeof(e -> 'approval') = 'object' THEN
            CASE WHEN e #> '{approval,approvers,0}' IS NULL THEN 'none' ELSE 'given' END END,
        'links', (SELECT jsonb_agg(DISTINCT v) FROM (
            SELECT x.value AS v FROM jsonb_each(CASE jsonb_typeof(c) WHEN 'object' THEN c ELSE '{}' END) x
            UNION ALL SELECT e #> '{auth,session_id}' UNION ALL SELECT e #> '{auth,credential_id}' UNION ALL SELECT e #> '{request,id}'
            UNION ALL SELECT t.value -> 'id' FROM jsonb_array_elements(CASE jsonb_typeof(e -> 'targets') WHEN 'array' THEN e -> 'targets' ELSE '[]' END) t
        ) ids WHERE jsonb_typeof(v) = 'string' AND v <> '""')));
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END $$;
-- +goose StatementEnd

-- Generated, so that it always says what the bytes say, for old events too.
ALTER TABLE audit.event ADD COLUMN facts jsonb GENERATED ALWAYS AS (audit.facts(bytes)) STORED;

CREATE INDEX event_application_idx ON audit.event ((facts ->> 'application'), id DESC);
CREATE INDEX event_route_idx ON audit.event ((facts ->> 'route'), id DESC);
CREATE INDEX event_method_idx ON audit.event ((facts ->> 'method'), id DESC);
CREATE INDEX event_provider_idx ON audit.event ((facts ->> 'provider'), id DESC);
CREATE INDEX event_approval_idx ON audit.event ((facts ->> 'approval'), id DESC) WHERE facts ->> 'approval' IS NOT NULL;
CREATE INDEX event_links_idx ON audit.event USING gin ((facts -> 'links') jsonb_path_ops);
CREATE INDEX event_ip_blind_idx ON audit.event (ip_blind, id DESC) WHERE ip_blind IS NOT NULL;
CREATE INDEX event_outcome_idx ON audit.event (outcome, id DESC) WHERE outcome <> 'success';
CREATE INDEX event_actor_type_idx ON audit.event (actor_type, id DESC);
-- Acts without mere looking: what the page shows first.
CREATE INDEX event_act_idx ON audit.event (id DESC) WHERE action <> ALL ('{web.view,api.call}'::text[]);

RESET ROLE;

SELECT guard.seal();
