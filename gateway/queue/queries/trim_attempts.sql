-- Keeps the last attempts of a delivery. $1 delivery, $2 the last number that goes
DELETE FROM delivery_attempt WHERE delivery_id = $1 AND number <= $2;
