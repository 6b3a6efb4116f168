-- All origins.
SELECT number, name, old_note, reason, opened_at FROM audit.origin ORDER BY number;
