-- Adds what the sandbox found to an item. $1 item, $2 class, $3 findings, $4 reasons
UPDATE quarantine_item SET class = $2, findings = findings || $3::jsonb, reasons = reasons || $4::jsonb WHERE id = $1;
