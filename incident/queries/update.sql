-- Changes an incident that is still as it was read. Who decides whether it is significant is noted when that changes.
-- $1 id, $2 version, $3 title, $4 severity, $5 state, $6 exercise, $7 owner, $8 regime, $9 trust service, $10 detected, $11 aware, $12 aware (unconfirmed),
-- $13 aware of a breach of personal data, $14 date of the authority, $15 contained, $16 closed, $17 significant, $18 why, $19 facts, $20 account
UPDATE incident SET title = $3, severity = $4, state = $5, exercise = $6, owner_id = $7, regime = $8, trust_service = $9, detected_at = $10, aware_at = $11,
    aware_unconfirmed_at = $12, breach_aware_at = $13, requested_for = $14, contained_at = $15, closed_at = $16,
    significant_at = CASE WHEN (significant, significant_reason) IS DISTINCT FROM ($17, $18) THEN now() ELSE significant_at END,
    significant_by = CASE WHEN (significant, significant_reason) IS DISTINCT FROM ($17, $18) THEN $20::uuid ELSE significant_by END,
    significant = $17, significant_reason = $18, facts = $19, version = version + 1, updated_at = now()
WHERE id = $1 AND version = $2;
