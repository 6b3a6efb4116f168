-- All policies for mail that comes in.
SELECT id, workspace_id, domain, direction, actions, version, updated_at FROM policy WHERE direction = 'inbound' ORDER BY domain;
