-- Adds what the sandbox found to an item. $1 item, $2 class, $3 findings, $4 reasons, $5 terms, $6 words
UPDATE quarantine_item SET class = $2, findings = findings || $3::jsonb, reasons = reasons || $4::jsonb,
    terms = terms || $5::text[], words = words || E'\n' || $6::text WHERE id = $1;
