-- Ends a question. $1 hold, $2 verdict, $3 in words
UPDATE sandbox_hold SET verdict = $2, detail = $3, decided_at = now() WHERE id = $1;
