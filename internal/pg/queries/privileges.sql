-- Rights that the running program must not have, one row for each that it does.
SELECT 'is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL
SELECT 'may create roles' FROM pg_roles WHERE rolname = current_user AND rolcreaterole
UNION ALL
SELECT 'bypasses row security' FROM pg_roles WHERE rolname = current_user AND rolbypassrls
UNION ALL
SELECT 'is a member of ' || r.rolname FROM pg_roles r
WHERE r.rolname <> current_user AND pg_has_role(current_user, r.oid, 'MEMBER')
  AND NOT r.rolsuper AND r.rolname IN ('mailward_owner', 'mailward_trace', 'pg_execute_server_program', 'pg_write_server_files', 'pg_write_all_data')
UNION ALL
SELECT 'owns ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('audit', 'guard', 'public') AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) = current_user
UNION ALL
SELECT 'has ' || p || ' on ' || c.oid::regclass
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) p
WHERE n.nspname = 'audit' AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, p)
UNION ALL
SELECT 'may create objects in schema ' || n.nspname FROM pg_namespace n
WHERE n.nspname IN ('audit', 'guard') AND has_schema_privilege(n.oid, 'CREATE')
LIMIT 20;
