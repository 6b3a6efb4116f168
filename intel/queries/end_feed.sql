-- Writes down how a run went, where the feed is still ours, and forgets old runs. $1 name, $2 began, $3 ended, $4 next, $5 good, $6 etag, $7 modified, $8 cursor, $9 unchanged, $10 complete,
-- $11 rows, $12 error, $13 alarm, $14 state, $15 added, $16 refused, $17 bytes, $18 how many runs are kept, $19 code, $20 until when it was claimed
WITH feed AS (
    UPDATE intel_feed SET claimed_until = NULL, due_at = $4, last_run_at = $2, error = $12, code = $19, alarm = $13,
        last_good_at = CASE WHEN $5 THEN $2 ELSE last_good_at END,
        etag = CASE WHEN $5 AND NOT $9 THEN $6 ELSE etag END, modified = CASE WHEN $5 AND NOT $9 THEN $7 ELSE modified END,
        cursor = CASE WHEN $5 AND NOT $9 THEN $8 ELSE cursor END, rows = CASE WHEN $5 AND $10 THEN $11 ELSE rows END
    WHERE name = $1 AND claimed_until = $20 RETURNING name
), old AS (
    DELETE FROM feed_run WHERE feed = $1 AND id < (SELECT min(id) FROM (SELECT id FROM feed_run WHERE feed = $1 ORDER BY id DESC LIMIT $18) x)
)
INSERT INTO feed_run (feed, started_at, ended_at, state, rows, added, refused, bytes, alarm, error) SELECT name, $2, $3, $14, $11, $15, $16, $17, $13, $12 FROM feed;
