INSERT INTO detection_proof (engine, node, tried_at, detected, answered, detail, proven_at)
VALUES ($1, $2, $3::timestamptz, $4::boolean, $5, $6, CASE WHEN $4::boolean THEN $3::timestamptz END)
ON CONFLICT (engine, node) DO UPDATE
SET tried_at = EXCLUDED.tried_at, detected = EXCLUDED.detected, answered = EXCLUDED.answered, detail = EXCLUDED.detail,
    proven_at = coalesce(EXCLUDED.proven_at, detection_proof.proven_at)
WHERE EXCLUDED.tried_at > detection_proof.tried_at
