-- Notes that the engines agree to a release. $1 release, $2 when
UPDATE release SET scanned_at = $2 WHERE id = $1;
