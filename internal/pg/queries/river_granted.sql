-- Whether the program may use every table of the job queue. $1 schema, $2 role
SELECT count(*) > 0 AND bool_and(has_table_privilege($2, c.oid, 'SELECT, INSERT') AND has_table_privilege($2, c.oid, 'UPDATE') AND has_table_privilege($2, c.oid, 'DELETE'))
FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = to_regnamespace($1);
