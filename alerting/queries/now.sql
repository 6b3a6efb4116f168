-- The database's time, which all processes share; and up to when everything is evaluated.
SELECT clock_timestamp(), (SELECT evaluated FROM alert_clock);
