WITH minutes AS (DELETE FROM health_minute WHERE at < $1),
     hours AS (DELETE FROM health_hour WHERE at < $2),
     proofs AS (DELETE FROM detection_proof WHERE tried_at < $1)
DELETE FROM health_change WHERE at < $2
