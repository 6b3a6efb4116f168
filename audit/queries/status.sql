-- How the audit is.
SELECT (SELECT count(*) FROM audit.unsequenced), (SELECT min(recorded_at) FROM audit.unsequenced),
       (SELECT coalesce(max(seq), -1) FROM audit.leaf),
       (SELECT count(*) FROM audit.tamper_attempt WHERE at > now() - interval '24 hours')
       + (SELECT count(*) FROM audit.tamper_spare WHERE at > now() - interval '24 hours'),
       (SELECT level FROM guard.level);
