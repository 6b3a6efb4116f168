-- Keys that were added. $1 since when
SELECT key, added_at FROM indicator WHERE added_at > $1;
