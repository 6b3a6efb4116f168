-- Notes how an attempt went. $1 id, $2 delivery, $3 number, $4 begin, $5 milliseconds, $6 result, $7 destination, $8 host, $9 TLS, $10 code, $11 text
INSERT INTO delivery_attempt (id, delivery_id, number, began_at, took_ms, result, destination, host, tls, code, text)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING;
