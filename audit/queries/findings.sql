-- What is wrong with the guards.
SELECT * FROM guard.findings() UNION ALL SELECT * FROM guard.counter_findings();
