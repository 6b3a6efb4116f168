-- Takes away what a source no longer calls bad. $1 source, $2 keys
DELETE FROM indicator WHERE source = $1 AND key = ANY($2::bigint[]);
