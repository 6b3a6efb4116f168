-- Rows whose destination nobody has looked up yet. $1 how many
SELECT id, recipient, envelope_from FROM delivery WHERE state = 'queued' AND destination = '' ORDER BY next_attempt_at LIMIT $1;
