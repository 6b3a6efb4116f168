-- A report as it was handed in. $1 incident, $2 its id
SELECT content FROM incident_stage WHERE incident_id = $1 AND id = $2 AND content IS NOT NULL;
