-- When and of what a workspace tells its recipients. $1 workspace
SELECT enabled, hours, weekdays, time_zone, language, release, request, version FROM digest_setting WHERE workspace_id = $1;
