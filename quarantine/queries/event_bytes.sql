-- The bytes of an audit event. $1 id
SELECT bytes FROM audit.event WHERE id = $1;
