SELECT id, class, action FROM mail LIMIT 0
