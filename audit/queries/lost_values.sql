-- Values of who acted, and from where, that are gone without an erasure on record: how
-- many, and the first event.
SELECT events, coalesce(first, '') FROM guard.lost_values();
