-- What a workspace wants of a class; zeros where it says nothing. $1 workspace, $2 class
SELECT coalesce(max(people), 0), coalesce(max(request_hours), 0), coalesce(max(keep_days), 0) FROM quarantine_rule WHERE workspace_id = $1 AND class = $2;
