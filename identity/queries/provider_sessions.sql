-- Open sessions that a provider let in: of its own session, or, where it names none, of the
-- subject. A session whose ID token named none there ends with any of its subject's.
-- $1 issuer, $2 session there or '', $3 subject there
SELECT id, user_id FROM session WHERE issuer = $1 AND ended_at IS NULL
  AND CASE WHEN $2 <> '' THEN idp_session = $2 OR idp_session = '' AND subject = $3 AND $3 <> '' ELSE subject = $3 END;
