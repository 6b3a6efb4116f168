-- Makes an item searchable. $1 item, $2 terms, $3 words
UPDATE quarantine_item SET terms = $2, words = $3 WHERE id = $1 AND terms IS NULL;
