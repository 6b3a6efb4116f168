-- What a workspace wants of each class. $1 workspace
SELECT class, coalesce(people, 0), coalesce(request_hours, 0), coalesce(keep_days, 0), version FROM quarantine_rule WHERE workspace_id = $1;
