-- Where deliveries go. $1 ids, $2 destinations
UPDATE delivery d SET destination = x.destination, updated_at = now()
FROM unnest($1::uuid[], $2::text[]) x(id, destination) WHERE d.id = x.id AND d.state = 'queued';
