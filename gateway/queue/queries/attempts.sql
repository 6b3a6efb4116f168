-- What the attempts of a delivery came to, the last one first. $1 delivery
SELECT number, began_at, took_ms, result, destination, host, tls, code, text FROM delivery_attempt WHERE delivery_id = $1 ORDER BY number DESC;
