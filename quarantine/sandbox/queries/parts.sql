-- The files of a question with where they are. $1 hold
SELECT encode(p.sha256, 'hex'), p.path, p.name, p.size, p.skipped, p.task_id, coalesce(t.state, ''), coalesce(t.verdict, ''), coalesce(t.score, 0), coalesce(t.family, ''),
       coalesce(t.signatures, '[]'), coalesce(t.error, '')
FROM sandbox_part p LEFT JOIN sandbox_task t ON t.id = p.task_id WHERE p.hold_id = $1 ORDER BY p.path, p.sha256;
