-- Months whose time is over, the oldest first, and what would go with each.
SELECT p.partition, p.class, p.month, p.kept_until, p.why_not, k.legal_basis,
    (SELECT count(*) FROM audit.leaf l WHERE l.retention = p.class AND l.event_id >= b.lo AND l.event_id < b.hi) AS events,
    (SELECT count(*) FROM audit.pii v WHERE v.event_id >= b.lo AND v.event_id < b.hi
        AND EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = v.event_id AND l.retention = p.class)) AS personal_values
FROM audit.purgeable() p JOIN audit_retention k ON k.class = p.class
CROSS JOIN LATERAL (SELECT audit.uuid_at(p.month::timestamptz) AS lo, audit.uuid_at((p.month + interval '1 month')::timestamptz) AS hi) b;
