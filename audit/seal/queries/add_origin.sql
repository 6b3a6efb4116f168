-- Opens an origin. $1 number, $2 name, $3 last note before, $4 reason
SELECT audit.add_origin($1, $2, $3, $4);
