-- When the engines have last agreed to a release. $1 release
SELECT scanned_at FROM release WHERE id = $1;
