-- Attempts that no event tells of yet, at most $1.
SELECT id, at, operation, object, session_role, current_role_name, client_addr, application, query FROM audit.take_tamper_attempts($1);
