-- Takes a delivery that nobody has in hand. $1 id
SELECT state FROM delivery WHERE id = $1 FOR UPDATE;
