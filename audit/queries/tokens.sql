-- The tokens that stand for a personal value in some event.
SELECT t FROM unnest(audit.tokens($1)) t WHERE EXISTS (SELECT FROM audit.pii p WHERE p.blind = t);
