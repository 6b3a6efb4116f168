-- The bytes of an audit event that the program itself has written, in the name of a person: one that somebody added at
-- psql is no decision. $1 id
SELECT bytes FROM audit.event WHERE id = $1 AND db_role = 'mailward_app';
