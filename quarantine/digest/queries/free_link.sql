-- Nothing came of a link: it counts again. $1 id
UPDATE digest_link SET used_at = NULL WHERE id = $1;
