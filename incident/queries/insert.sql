-- Adds an incident, with the next number of the year in its workspace (after lock_numbers).
-- $1 id, $2 workspace, $3 title, $4 severity, $5 state, $6 exercise, $7 owner, $8 regime, $9 trust service, $10 detected, $11 aware, $12 aware (unconfirmed),
-- $13 aware of a breach of personal data, $14 date of the authority, $15 contained, $16 closed, $17 facts, $18 account, $19 year
INSERT INTO incident (id, workspace_id, number, title, severity, state, exercise, owner_id, regime, trust_service, detected_at, aware_at, aware_unconfirmed_at,
    breach_aware_at, requested_for, contained_at, closed_at, significant, facts, created_by)
SELECT $1, $2, 'INC-' || $19::text || '-' || lpad((coalesce(max(split_part(i.number, '-', 3)::integer), 0) + 1)::text, 4, '0'),
    $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 'undecided', $17, $18
FROM incident i WHERE i.workspace_id = $2 AND i.number LIKE 'INC-' || $19::text || '-%';
