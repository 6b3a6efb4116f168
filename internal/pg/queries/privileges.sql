-- Rights that the running program must not have, one row for each that it does.
SELECT 'logs in as ' || session_user || ' and acts as ' || current_user WHERE session_user <> current_user
UNION ALL
SELECT 'is not ' || $1 || ', whose word alone the record takes' WHERE session_user <> $1
UNION ALL
SELECT unnest(array_remove(ARRAY[CASE WHEN rolsuper THEN 'is a superuser' END, CASE WHEN rolcreaterole THEN 'may create roles' END,
    CASE WHEN rolcreatedb THEN 'may create databases' END, CASE WHEN rolbypassrls THEN 'bypasses row security' END,
    CASE WHEN rolreplication THEN 'may replicate' END], NULL)) FROM pg_roles WHERE rolname = current_user
UNION ALL
SELECT 'is a member of ' || r.rolname FROM pg_roles r
WHERE r.rolname <> current_user AND pg_has_role(current_user, r.oid, 'MEMBER')
  AND NOT (SELECT me.rolsuper FROM pg_roles me WHERE me.rolname = current_user)
  AND (r.rolsuper OR r.rolcreaterole OR r.rolname IN ('mailward_owner', 'mailward_guard', 'mailward_trace', 'pg_execute_server_program',
       'pg_write_server_files', 'pg_read_server_files', 'pg_write_all_data', 'pg_database_owner'))
UNION ALL
SELECT 'owns ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('audit', 'guard', 'public') AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) = current_user
UNION ALL
SELECT 'owns the function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname IN ('audit', 'guard') AND pg_get_userbyid(p.proowner) = current_user
UNION ALL
SELECT 'has ' || p || ' on ' || c.oid::regclass
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) p
WHERE n.nspname IN ('audit', 'guard') AND c.relkind IN ('r', 'p')
  AND (has_table_privilege(c.oid, p) OR (p IN ('INSERT', 'UPDATE') AND has_any_column_privilege(c.oid, p)))
UNION ALL
SELECT 'may read guard.secret' WHERE has_any_column_privilege('guard.secret', 'SELECT')
UNION ALL
SELECT 'may ' || p || ' ' || t FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) p, unnest(ARRAY['mail', 'mail_outcome', 'approval']) t
WHERE has_table_privilege(t, p)
UNION ALL
SELECT 'may create objects in schema ' || n.nspname FROM pg_namespace n
WHERE n.nspname IN ('audit', 'guard', 'public') AND has_schema_privilege(n.oid, 'CREATE')
UNION ALL
SELECT 'may create schemas in this database' WHERE has_database_privilege(current_database(), 'CREATE')
UNION ALL
SELECT 'may set session_replication_role' WHERE has_parameter_privilege('session_replication_role', 'SET')
LIMIT 20;
