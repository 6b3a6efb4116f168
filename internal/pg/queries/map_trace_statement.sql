-- The statement that lets the guard log in as the trace role. Its password
-- stands in a user mapping, since everyone can read a function's source. $1 password
SELECT format('DROP USER MAPPING IF EXISTS FOR mailward_guard SERVER mailward_loopback;
    CREATE USER MAPPING FOR mailward_guard SERVER mailward_loopback OPTIONS (user ''mailward_trace'', password %L)', $1::text);
