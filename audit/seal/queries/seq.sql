-- The leaf of an event. $1 id
SELECT seq, leaf_hash FROM audit.leaf WHERE event_id = $1;
