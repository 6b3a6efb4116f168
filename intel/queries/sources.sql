-- The names of sources: of all feeds, and of what was added lately
SELECT name FROM intel_feed UNION SELECT DISTINCT source FROM (SELECT source FROM indicator ORDER BY added_xid DESC LIMIT 10000) x ORDER BY 1;
