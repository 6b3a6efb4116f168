-- Points the tamper trace at this very server and database.
SELECT guard.repoint();
