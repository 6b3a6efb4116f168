-- What is wrong with the guards.
SELECT * FROM guard.findings();
