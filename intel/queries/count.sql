-- How many indicators there are
SELECT count(*) FROM indicator;
