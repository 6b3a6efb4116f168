-- $1 id, $2 alert, $3 time, $4 phase, $5 phase before, $6 value or null, $7 number of the rule, $8 episode, $9 late
INSERT INTO alert_event (id, alert_id, at, phase, before, value, number, episode, late) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
