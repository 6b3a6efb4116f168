-- Sets a delivery aside of which nobody knows whether it arrived: a person wants it sent again. $1 recipient
UPDATE delivery SET state = 'repeated', updated_at = now() WHERE recipient_id = $1 AND kind = 'release' AND state = 'outcome_unknown';
