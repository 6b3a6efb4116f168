-- A rule's new version. $1 id, $2 version of the row as it was read, $3 spec, $4 enabled
UPDATE alert_rule SET spec = $3, enabled = $4, number = (SELECT max(number) + 1 FROM alert_rule_version WHERE rule_id = $1), version = version + 1, updated_at = now()
WHERE id = $1 AND version = $2 AND deleted_at IS NULL RETURNING number;
