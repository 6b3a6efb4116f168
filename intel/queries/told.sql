-- Notes what a source has heard of. $1 source, $2 keys, $3 hits
UPDATE indicator_hit h SET told = x.hits FROM unnest($2::bigint[], $3::bigint[]) x (key, hits) WHERE h.key = x.key AND h.source = $1;
