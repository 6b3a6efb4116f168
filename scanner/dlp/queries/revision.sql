-- What changes when a set does.
SELECT count(*), coalesce(sum(version), 0)::bigint, coalesce(max(updated_at), to_timestamp(0)) FROM dlp_set;
