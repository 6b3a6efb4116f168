-- Lets the program use the job queue's tables, which live in the schema river.
GRANT USAGE ON SCHEMA river TO mailward_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA river TO mailward_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA river TO mailward_app;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA river TO mailward_app;
