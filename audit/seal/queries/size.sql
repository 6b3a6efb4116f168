-- How many leaves there are.
SELECT coalesce(max(seq), -1) + 1 FROM audit.leaf;
