-- Stores a checkpoint. $1 origin, $2 size, $3 root, $4 note
SELECT audit.add_checkpoint($1, $2, $3, $4);
