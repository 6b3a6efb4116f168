-- The job queue's tables have a schema of their own.
CREATE SCHEMA IF NOT EXISTS river;
