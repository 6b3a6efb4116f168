-- Keys of transactions that were not over before. $1 the first of those
SELECT key, added_at FROM indicator WHERE added_xid >= $1::text::xid8;
