-- How many values an erasure of $1 would remove, and from how many events: those of it,
-- and what the events quote that are about it (audit.remove_values).
WITH t AS MATERIALIZED (SELECT audit.tokens($1) AS tokens),
hit AS MATERIALIZED (SELECT p.event_id, p.path FROM audit.pii p WHERE p.blind = ANY ((SELECT tokens FROM t)::bytea[]))
SELECT count(*), count(DISTINCT h.event_id) FROM (
    SELECT event_id, path FROM hit
    UNION SELECT p.event_id, p.path FROM audit.pii p
    WHERE p.path IN ('attestation.act', 'outcome.detail') AND p.event_id IN (SELECT event_id FROM hit WHERE path NOT IN ('actor.email', 'source.ip'))
) h;
