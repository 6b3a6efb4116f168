-- Shows at once that an alert is in hand. $1 alert
UPDATE alert SET acked = true, silent = 'acknowledged' WHERE id = $1 AND phase = 'firing';
