-- The rules that are evaluated.
SELECT id, number, coalesce(workspace_id, '00000000-0000-0000-0000-000000000000'), spec FROM alert_rule WHERE enabled AND deleted_at IS NULL ORDER BY id;
