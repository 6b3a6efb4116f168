-- Whether an item is under a legal hold, or an export of evidence waits for it: the bytes are what it is about. A request
-- that nobody answers holds them for thirty days. $1 item
SELECT i.legal_hold_at IS NOT NULL OR EXISTS (SELECT FROM evidence_export e WHERE e.item_ids @> ARRAY[i.id]
    AND e.state IN ('requested', 'approved', 'running') AND e.created_at > now() - interval '30 days')
FROM quarantine_item i WHERE i.id = $1;
