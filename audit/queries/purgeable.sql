-- Months whose time is over, the oldest first.
SELECT partition, class, month, kept_until, why_not FROM audit.purgeable();
