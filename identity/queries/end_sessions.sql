-- Ends all sessions of an account but one. $1 account, $2 the one that stays, $3 by what
UPDATE session SET ended_at = now(), ended_by = $3 WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL;
