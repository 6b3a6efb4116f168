-- Files of rules that are switched off.
SELECT space, reason, actor, created_at FROM yara_file_off ORDER BY space;
