-- The statement that gives a role its password, quoted by the database. $1 role, $2 password
SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text);
