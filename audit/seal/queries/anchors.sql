-- Of each anchor the last time that it took a checkpoint, and the last try.
SELECT DISTINCT ON (a.name) a.name, a.ok, a.at, a.detail, a.size,
       (SELECT max(g.at) FROM audit.anchor g WHERE g.name = a.name AND g.ok),
       (SELECT min(f.at) FROM audit.anchor f WHERE f.name = a.name AND NOT f.ok AND f.at > coalesce((SELECT max(g.at) FROM audit.anchor g WHERE g.name = a.name AND g.ok), '-infinity')),
       (SELECT count(*) FROM audit.anchor f WHERE f.name = a.name AND NOT f.ok AND f.at > coalesce((SELECT max(g.at) FROM audit.anchor g WHERE g.name = a.name AND g.ok), '-infinity'))
FROM audit.anchor a ORDER BY a.name, a.at DESC, a.id DESC;
