-- Removes a domain. $1 name
DELETE FROM domain WHERE name = $1;
