-- $1 grant
DELETE FROM role_grant WHERE id = $1;
