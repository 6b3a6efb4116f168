-- The sum over all databases: the limit on connections is the server's.
SELECT current_setting('server_version'),
       pg_is_in_recovery(),
       current_setting('transaction_read_only') = 'on',
       (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database),
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int,
       pg_postmaster_start_time()
