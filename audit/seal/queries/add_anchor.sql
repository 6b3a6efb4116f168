-- Notes a try. $1 id, $2 origin, $3 size, $4 name, $5 kind, $6 target, $7 whether it worked, $8 receipt, $9 detail
SELECT audit.add_anchor($1, $2, $3, $4, $5, $6, $7, $8, $9);
