-- Without the right to read the statistics of others, replay_lsn is null: then the slots alone tell how far copies are
-- behind. pg_current_wal_lsn() fails while a server recovers, so it stands behind its CASE.
WITH here AS (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn)
SELECT (SELECT count(*)::int FROM pg_stat_replication),
       coalesce((SELECT max(pg_wal_lsn_diff(here.lsn, r.replay_lsn)) FROM pg_stat_replication r), -1)::bigint,
       (SELECT count(*)::int FROM pg_replication_slots),
       (SELECT count(*)::int FROM pg_replication_slots WHERE NOT active),
       coalesce((SELECT max(pg_wal_lsn_diff(here.lsn, s.restart_lsn)) FROM pg_replication_slots s), 0)::bigint,
       (SELECT count(*)::int FROM pg_replication_slots WHERE wal_status IN ('unreserved', 'lost')),
       pg_database_size(current_database()),
       coalesce(extract(epoch FROM now() - (SELECT min(xact_start) FROM pg_stat_activity WHERE state = 'idle in transaction')), 0)::int
FROM here
